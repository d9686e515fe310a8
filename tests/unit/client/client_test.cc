#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "certificate.h"
#include "fake_server.h"
#include "support/temp_folder.h"

namespace sluice::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::GenerateRequest TextRequest(const std::string& text) {
  v1::GenerateRequest request;
  request.set_text(text);
  return request;
}

// What a stream brought, in a form that can be compared.
std::string Describe(const v1::GenerateResponse& event) {
  if (event.has_started()) return "started";
  if (event.has_finished()) return "finished";
  return event.delta().text();
}

// Has `server` talk to one call for ever; `ended` is set when that is gone.
void TalkUntilGone(FakeServer& server, std::promise<void>& ended) {
  server.OnGenerate([&ended](const v1::GenerateRequest& request, EventWriter& writer) {
    const grpc::Status status = TalkForever(request, writer);
    ended.set_value();
    return status;
  });
}

TEST(ClientTest, GenerateBringsEventsInOrder) {
  FakeServer server;
  const Client client(server.address());
  std::vector<std::string> events;
  const absl::Status status = client.Generate(
      TextRequest("hi"), {}, [&](const auto& event) { events.push_back(Describe(event)); });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(events, ElementsAre("started", "Hello,", " world!", "finished"));
  ASSERT_EQ(server.requests().size(), 1u);
  EXPECT_EQ(server.requests()[0].text(), "hi");
}

TEST(ClientTest, StartGenerateBringsTheSameEventsAndThenTheStatus) {
  FakeServer server;
  const Client client(server.address());
  std::vector<std::string> events;
  std::promise<absl::Status> done;
  client.StartGenerate(
      TextRequest("hi"), {}, [&](const auto& event) { events.push_back(Describe(event)); },
      [&](const absl::Status& status) { done.set_value(status); });
  const absl::Status status = done.get_future().get();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(events, ElementsAre("started", "Hello,", " world!", "finished"));
}

TEST(ClientTest, ErrorsKeepCodeAndMessageAlsoAfterEvents) {
  FakeServer server;
  const Client client(server.address());
  for (int code = 1; code <= 16; ++code) {
    server.OnGenerate([code](const auto&, EventWriter& writer) {
      if (code % 2 == 0) writer.Write(DeltaEvent("x"));
      return grpc::Status(static_cast<grpc::StatusCode>(code), absl::StrCat("message ", code));
    });
    const absl::Status status = client.Generate(TextRequest("hi"), {}, [](const auto&) {});
    EXPECT_EQ(status.raw_code(), code);
    EXPECT_EQ(status.message(), absl::StrCat("message ", code));
  }
}

TEST(ClientTest, CancellationEndsBothSidesOfAStream) {
  FakeServer server;
  std::promise<void> server_ended;
  TalkUntilGone(server, server_ended);
  const Client client(server.address());
  Cancellation cancellation;
  const absl::Status status = client.Generate(TextRequest("hi"), {.cancellation = &cancellation},
                                              [&](const v1::GenerateResponse& event) {
                                                if (event.has_delta()) cancellation.Cancel();
                                              });
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  server_ended.get_future().wait();
}

TEST(ClientTest, CancellationEndsAStartedCallFromAnotherThread) {
  FakeServer server;
  server.OnGenerate(TalkForever);
  const Client client(server.address());
  Cancellation cancellation;
  std::promise<void> started;
  std::promise<absl::Status> done;
  client.StartGenerate(
      TextRequest("hi"), {.cancellation = &cancellation},
      [&](const v1::GenerateResponse& event) {
        if (event.has_started()) started.set_value();
      },
      [&](const absl::Status& status) { done.set_value(status); });
  started.get_future().wait();
  cancellation.Cancel();
  const absl::Status status = done.get_future().get();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

TEST(ClientTest, ACancellationThatWasUsedEndsLaterCallsAtOnce) {
  FakeServer server;
  const Client client(server.address());
  Cancellation cancellation;
  EXPECT_FALSE(cancellation.cancelled());
  cancellation.Cancel();
  EXPECT_TRUE(cancellation.cancelled());
  EXPECT_TRUE(absl::IsCancelled(client.GetLoad({.cancellation = &cancellation}).status()));
  EXPECT_TRUE(absl::IsCancelled(client.Generate(TextRequest("hi"), {.cancellation = &cancellation},
                                                [](const auto&) { FAIL(); })));
  EXPECT_TRUE(client.GetLoad({}).ok());
}

TEST(ClientTest, DeadlineEndsBothSidesOfAStream) {
  FakeServer server;
  std::promise<void> server_ended;
  TalkUntilGone(server, server_ended);
  const Client client(server.address());
  const absl::Status status =
      client.Generate(TextRequest("hi"), {.timeout = absl::Milliseconds(100)}, [](const auto&) {});
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  server_ended.get_future().wait();
}

TEST(ClientTest, UnaryCallsBringAnswersAndErrors) {
  FakeServer server;
  server.server_info.set_version("1.2.3");
  server.model_info.set_vocab_size(99);
  server.load.set_running_requests(4);
  server.expert_loads.resize(1);
  server.expert_loads[0].set_steps(5);
  const Client client(server.address());
  EXPECT_EQ(client.GetServerInfo({})->version(), "1.2.3");
  EXPECT_EQ(client.GetModelInfo({})->vocab_size(), 99);
  EXPECT_EQ(client.GetLoad({})->running_requests(), 4);
  EXPECT_EQ(client.GetExpertLoad({}, {})->steps(), 5);
  v1::TokenizeRequest text;
  text.set_text("AB");
  EXPECT_THAT(client.Tokenize(text, {})->token_ids(), ElementsAre(65, 66));
  v1::DetokenizeRequest ids;
  ids.add_token_ids(67);
  EXPECT_EQ(client.Detokenize(ids, {})->text(), "C");
  v1::AbortRequest abort;
  abort.set_request_id("r9");
  EXPECT_EQ(client.Abort(abort, {}), absl::NotFoundError("no request r9"));

  server.unary_status = {grpc::StatusCode::UNAVAILABLE, "loading"};
  EXPECT_EQ(client.GetLoad({}).status(), absl::UnavailableError("loading"));
}

TEST(ClientTest, HealthIsOkOnlyWhileServing) {
  FakeServer server;
  const Client client(server.address());
  EXPECT_TRUE(client.CheckHealth("", {}).ok());
  EXPECT_TRUE(absl::IsNotFound(client.CheckHealth("no.such.Service", {})));
  server.SetServing("sluice.v1.Generation", false);
  const absl::Status status = client.CheckHealth("sluice.v1.Generation", {});
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("sluice.v1.Generation is NOT_SERVING"));
  server.SetServing("sluice.v1.Generation", true);
  EXPECT_TRUE(client.CheckHealth("sluice.v1.Generation", {}).ok());
}

TEST(ClientTest, OptionsOfTlsThatDoNotFitTogetherAreRefusedByName) {
  const testing::TempFolder folder;
  const std::string ca = folder.File("ca", kCertificate);
  const std::string list = "127.0.0.1:1,127.0.0.1:2";
  const struct {
    ConnectionOptions options;
    // What the error begins with; empty: there is none.
    std::string error;
  } rows[] = {
      {{.address = "a:1", .tls_server_name = "b"}, "tls_server_name needs tls_ca"},
      {{.address = "unix:/a", .tls_server_name = "b"}, "tls_server_name needs tls_ca"},
      {{.address = "a:1", .tls_ca = ca, .tls_server_name = "b"}, ""},
      {{.address = "a:1", .tls_ca = ca}, ""},
      {{.address = "a:1", .tls_cert = "/c"}, "tls_cert and tls_key go together"},
      {{.address = "a:1", .tls_ca = ca, .tls_key = "/k"}, "tls_cert and tls_key go together"},
      {{.address = "a:1", .tls_cert = "/c", .tls_key = "/k"}, "tls_cert needs tls_ca"},
      {{.address = list}, ""},
      {{.address = list, .tls_ca = ca}, "with tls_ca a list of IP addresses needs tls_server_name"},
      {{.address = list, .tls_ca = ca, .tls_server_name = "b"}, ""},
      {{.address = "ipv4:" + list, .tls_ca = ca}, "with tls_ca a list of IP addresses needs"},
      {{.address = "ipv4:127.0.0.1:1", .tls_ca = ca}, ""},
      {{.address = "dns:///localhost:1", .tls_ca = ca}, ""},
  };
  for (const auto& row : rows) {
    const absl::Status status = Client::Create(row.options).status();
    EXPECT_EQ(status.ok(), row.error.empty()) << status << " " << row.options.address;
    EXPECT_EQ(status.message().substr(0, row.error.size()), row.error);
  }
}

TEST(ClientTest, WithoutAServerCallsAreUnavailable) {
  std::string address;
  {
    const FakeServer server;
    address = server.address();
  }
  const Client client(address);
  EXPECT_TRUE(absl::IsUnavailable(client.GetLoad({}).status()));
}

}  // namespace
}  // namespace sluice::client
