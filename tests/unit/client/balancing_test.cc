// One client and several servers.
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "fake_server.h"

namespace sluice::client {
namespace {

constexpr char kGeneration[] = "sluice.v1.Generation";

v1::GenerateRequest TextRequest(const std::string& text) {
  v1::GenerateRequest request;
  request.set_text(text);
  return request;
}

class BalancingTest : public ::testing::Test {
 protected:
  BalancingTest() {
    for (FakeServer* server : {first_.get(), &second_}) server->SetServing(kGeneration, true);
    client_ = *Client::Create({.address = absl::StrCat(first_->address(), ",", second_.address())});
  }

  // How many of `calls` each server got. All of them succeed.
  std::pair<size_t, size_t> Spread(int calls) {
    const size_t first = first_->requests().size();
    const size_t second = second_.requests().size();
    for (int i = 0; i < calls; ++i) {
      const absl::Status status = client_->Generate(TextRequest("hi"), {}, [](const auto&) {});
      EXPECT_TRUE(status.ok()) << status;
    }
    return {first_->requests().size() - first, second_.requests().size() - second};
  }

  // Calls until both, or only the second, have had two in turn: who is ready is told to the client
  // while it calls.
  void AwaitSpread(size_t to_first) {
    while (Spread(4).first != to_first) {
    }
  }

  std::unique_ptr<FakeServer> first_ = std::make_unique<FakeServer>();
  FakeServer second_;
  std::unique_ptr<Client> client_;
};

TEST_F(BalancingTest, CallsGoToBothInTurn) {
  AwaitSpread(2);
  EXPECT_EQ(Spread(10), std::pair(size_t{5}, size_t{5}));
}

TEST_F(BalancingTest, AServerThatIsNotReadyGetsNoCalls) {
  AwaitSpread(2);
  first_->SetServing(kGeneration, false);
  AwaitSpread(0);
  EXPECT_EQ(Spread(10), std::pair(size_t{0}, size_t{10}));
  first_->SetServing(kGeneration, true);
  AwaitSpread(2);
}

TEST_F(BalancingTest, WithNoneReadyCallsAreUnavailable) {
  AwaitSpread(2);
  first_->SetServing(kGeneration, false);
  second_.SetServing(kGeneration, false);
  absl::Status status;
  while (status.ok()) status = client_->GetLoad({}).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
}

TEST_F(BalancingTest, AnotherAttemptGoesToTheOtherServer) {
  AwaitSpread(2);
  const auto refuse = [](const auto&, EventWriter&) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down");
  };
  first_->OnGenerate(refuse);
  const CallOptions options{.retry = {.max_attempts = 2, .initial_backoff = absl::Milliseconds(1)}};
  for (int i = 0; i < 10; ++i) {
    const absl::Status status = client_->Generate(TextRequest("hi"), options, [](const auto&) {});
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST_F(BalancingTest, OnlyAnAnswerThatHadBegunIsLostWithItsServer) {
  AwaitSpread(2);
  // The first server never answers one call, and begins to answer the other.
  std::promise<void> silent, talking;
  first_->OnGenerateCall(
      [&](grpc::ServerContext& context, const v1::GenerateRequest& request, EventWriter& writer) {
        if (request.text() == "talk") {
          writer.Write(StartedEvent());
          talking.set_value();
        } else {
          silent.set_value();
        }
        while (!context.IsCancelled()) std::this_thread::yield();
        return grpc::Status::OK;
      });
  struct Call {
    std::promise<absl::Status> done;
    int events = 0;
  };
  const CallOptions options{.retry = {.max_attempts = 5, .initial_backoff = absl::Milliseconds(1)}};
  const auto start = [&](const std::string& text, Call& call) {
    client_->StartGenerate(
        TextRequest(text), options, [&](const auto&) { ++call.events; },
        [&](const absl::Status& status) { call.done.set_value(status); });
  };
  // One of two calls in a row goes to the first server.
  Call talk[2], wait[2];
  for (Call& call : talk) start("talk", call);
  for (Call& call : wait) start("wait", call);
  talking.get_future().wait();
  silent.get_future().wait();
  first_.reset();
  int lost = 0;
  for (Call& call : talk) {
    const absl::Status status = call.done.get_future().get();
    if (!status.ok()) ++lost;
  }
  EXPECT_EQ(lost, 1);
  for (Call& call : wait) {
    const absl::Status status = call.done.get_future().get();
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(call.events, 4);
  }
}

}  // namespace
}  // namespace sluice::client
