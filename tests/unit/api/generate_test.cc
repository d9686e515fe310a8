// Generate over a real connection: order of the stream, its ends, and what refuses it.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "test_server.h"

namespace sluice::api {
namespace {

using ::testing::ElementsAreArray;
using testing::FakeTokenizer;
using testing::TestServer;

constexpr char kEndless[] = "a";

struct Outcome {
  grpc::Status status;
  v1::Started started;
  std::string text;
  std::vector<int> token_ids;
  v1::Finished finished;
  // By choice.
  std::map<int, std::string> text_of;
  std::map<int, v1::Finished> finished_of;
  // One letter a message: s(tarted), p(rompt logprobs), d(elta), f(inished).
  std::string order;
};

void Add(const v1::GenerateResponse& message, Outcome& outcome) {
  switch (message.event_case()) {
    case v1::GenerateResponse::kStarted:
      outcome.started = message.started();
      outcome.order += 's';
      break;
    case v1::GenerateResponse::kPromptLogprobs:
      outcome.order += 'p';
      break;
    case v1::GenerateResponse::kDelta:
      outcome.text += message.delta().text();
      outcome.text_of[message.delta().choice()] += message.delta().text();
      outcome.token_ids.insert(outcome.token_ids.end(), message.delta().token_ids().begin(),
                               message.delta().token_ids().end());
      outcome.order += 'd';
      break;
    case v1::GenerateResponse::kFinished:
      outcome.finished = message.finished();
      outcome.finished_of[message.finished().choice()] = message.finished();
      outcome.order += 'f';
      break;
    case v1::GenerateResponse::EVENT_NOT_SET:
      outcome.order += '?';
  }
}

// One call, read as fast as possible by ReadAll, or message by message.
class Call {
 public:
  Call(const TestServer& server, const v1::GenerateRequest& request) {
    stub_ = server.generation();
    reader_ = stub_->Generate(&context, request);
  }

  v1::GenerateResponse Next() {
    v1::GenerateResponse message;
    EXPECT_TRUE(reader_->Read(&message));
    Add(message, outcome_);
    return message;
  }
  Outcome ReadAll() {
    v1::GenerateResponse message;
    while (reader_->Read(&message)) Add(message, outcome_);
    outcome_.status = reader_->Finish();
    return outcome_;
  }

  grpc::ClientContext context;

 private:
  std::unique_ptr<v1::Generation::Stub> stub_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
  Outcome outcome_;
};

// Whether `order` is s p? d* f.
bool IsWholeStream(const std::string& order) {
  const std::string deltas = order.substr(1, order.size() - 2);
  return order.size() >= 2 && order.front() == 's' && order.back() == 'f' &&
         deltas.find_first_not_of('d', deltas.find_first_of('p') == 0 ? 1 : 0) == std::string::npos;
}

TEST(GenerateTest, StreamsStartedThenDeltasThenFinished) {
  TestServer server({.scripts = {"hello wörld~"}});
  v1::GenerateRequest request = TestServer::Request(0);
  request.set_request_id("mine");
  const Outcome outcome = Call(server, request).ReadAll();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_TRUE(IsWholeStream(outcome.order)) << outcome.order;
  EXPECT_EQ(outcome.started.request_id(), "mine");
  EXPECT_EQ(outcome.started.prompt_tokens(), 2);
  EXPECT_EQ(outcome.text, "hello wörld");
  std::vector<int> expected = testing::Bytes("hello wörld");
  expected.push_back(FakeTokenizer::kEos);
  EXPECT_THAT(outcome.token_ids, ElementsAreArray(expected));
  EXPECT_EQ(outcome.finished.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(outcome.finished.stop_token_id(), FakeTokenizer::kEos);
  EXPECT_EQ(outcome.finished.usage().generated_tokens(), 13);
  EXPECT_EQ(server.Metric(R"(sluice_requests_total{code="OK",method="Generate"})") +
                server.Metric(R"(sluice_requests_total{method="Generate",code="OK"})"),
            0)
      << "one of both series is there, with one call; the other counts -1";
  EXPECT_EQ(server.Metric(R"(sluice_requests_finished_total{reason="stop"})"), 1);
}

TEST(GenerateTest, EndsAtMaxTokens) {
  TestServer server({.scripts = {kEndless}});
  v1::GenerateRequest request = TestServer::Request(0);
  request.mutable_stopping()->set_max_tokens(7);
  const Outcome outcome = Call(server, request).ReadAll();
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.text, "aaaaaaa");
  EXPECT_EQ(outcome.finished.reason(), v1::FINISH_REASON_LENGTH);
}

TEST(GenerateTest, AStopStringEndsTheAnswerAndFreesTheRequest) {
  TestServer server({.scripts = {"one two END and on and on"}});
  v1::GenerateRequest request = TestServer::Request(0);
  request.mutable_stopping()->add_stop_strings(" END");
  server.gate.HoldAfter(13);
  const Outcome outcome = Call(server, request).ReadAll();
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.text, "one two");
  EXPECT_EQ(outcome.finished.stop_string(), " END");
  EXPECT_EQ(outcome.finished.usage().generated_tokens(), 11);
  server.gate.Open();
  server.AwaitIdle();
  EXPECT_LE(server.engine->Load().generated_tokens, 14) << "the engine went on after the end";
}

TEST(GenerateTest, PromptAndStopStringAreInTheTextIfWanted) {
  TestServer server({.scripts = {"one two END and on and on"}});
  v1::GenerateRequest request = TestServer::Request(0);
  request.mutable_token_ids()->set_ids(1, '>');
  request.mutable_stopping()->add_stop_strings("o END");
  request.mutable_stopping()->set_include_stop(true);
  request.mutable_response()->set_echo(true);
  const Outcome outcome = Call(server, request).ReadAll();
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.text, absl::StrCat(std::string(1, '\0'), ">one two END"));
  EXPECT_EQ(outcome.finished.stop_string(), "o END");
  EXPECT_THAT(outcome.token_ids, ElementsAreArray(testing::Bytes("one two END")));
}

TEST(GenerateTest, ChoicesComeInOneStream) {
  TestServer server({.scripts = {"hello~"}});
  v1::GenerateRequest request = TestServer::Request(0);
  request.set_num_choices(3);
  Call call(server, request);
  const Outcome outcome = call.ReadAll();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text_of,
            (std::map<int, std::string>{{0, "hello"}, {1, "hello"}, {2, "hello"}}));
  EXPECT_EQ(std::count(outcome.order.begin(), outcome.order.end(), 'f'), 3);
  EXPECT_EQ(outcome.order.front(), 's');
  EXPECT_EQ(outcome.order.back(), 'f');
  server.AwaitIdle();
}

TEST(GenerateTest, WhatTheEngineFindsWrongNamesItsField) {
  TestServer server(
      {.scripts = {"hello~"}, .limits = {.max_running_requests = 2, .max_context = 4096}});
  v1::GenerateRequest request = TestServer::Request(0);
  request.set_num_choices(3);
  const grpc::Status status = Call(server, request).ReadAll().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  google::rpc::Status details;
  google::rpc::BadRequest bad_request;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  ASSERT_EQ(details.details_size(), 1);
  ASSERT_TRUE(details.details(0).UnpackTo(&bad_request));
  EXPECT_EQ(bad_request.field_violations(0).field(), "num_choices");
}

// Of two choices with tokens drawn at random, one has a character that the other has not.
TEST(GenerateTest, AStopStringEndsOneChoiceAndFreesItWhileTheOthersGoOn) {
  constexpr int kTokens = 40;
  const auto draw = [](uint64_t seed, int choice) {
    std::vector<TokenId> tokens;
    for (int i = 0; i < kTokens; ++i) {
      tokens.push_back(testing::FakeRandomToken('a', scheduler::ChoiceSeed(seed, choice), 2 + i));
    }
    return tokens;
  };
  uint64_t seed = 0;
  std::vector<TokenId> stopped;
  std::vector<TokenId> whole;
  do {
    stopped = draw(++seed, 1);
    whole = draw(seed, 0);
  } while (stopped[5] < 'a' || stopped[5] > 'z' ||
           std::count(stopped.begin(), stopped.begin() + 5, stopped[5]) > 0 ||
           std::count(whole.begin(), whole.end(), stopped[5]) > 0);

  TestServer server({.scripts = {kEndless}});
  v1::GenerateRequest request = TestServer::Request(0);
  request.set_num_choices(2);
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(seed);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_stopping()->set_max_tokens(kTokens);
  request.mutable_stopping()->add_stop_strings(std::string(1, static_cast<char>(stopped[5])));
  // One step more than the first choice needs for as many tokens: the second is one behind.
  server.gate.HoldAfter(8);
  Call call(server, request);
  while (!call.Next().has_finished()) {
  }
  server.gate.Open();
  const Outcome outcome = call.ReadAll();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.finished_of.at(1).stop_string(), std::string(1, static_cast<char>(stopped[5])));
  EXPECT_EQ(outcome.finished_of.at(1).usage().generated_tokens(), 6);
  EXPECT_EQ(outcome.finished_of.at(0).reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(outcome.finished_of.at(0).usage().generated_tokens(), kTokens);
  server.AwaitIdle();
  EXPECT_LE(server.engine->Load().generated_tokens, kTokens + 9) << "the choice went on";
}

TEST(GenerateTest, LogprobsComeWithTheTokensAndBeforeThemForThePrompt) {
  TestServer server({.scripts = {"abc~"}});
  v1::GenerateRequest request = TestServer::Request(0);
  request.mutable_response()->set_logprobs(2);
  request.mutable_response()->set_prompt_logprobs(0);
  Call call(server, request);
  EXPECT_TRUE(call.Next().has_started());
  EXPECT_EQ(call.Next().prompt_logprobs().logprobs_size(), 1);
  const v1::Delta delta = call.Next().delta();
  ASSERT_GE(delta.logprobs_size(), 1);
  EXPECT_EQ(delta.logprobs_size(), delta.token_ids_size());
  EXPECT_EQ(delta.logprobs(0).text(), "a");
  EXPECT_EQ(delta.logprobs(0).top_size(), 2);
  EXPECT_TRUE(IsWholeStream(call.ReadAll().order));
}

TEST(GenerateTest, AReaderThatIsLateGetsFewerDeltasAndTheWholeAnswer) {
  TestServer server({.scripts = {kEndless}});
  v1::GenerateRequest request = TestServer::Request(0);
  request.mutable_stopping()->set_max_tokens(2000);
  Call call(server, request);
  call.Next();
  // The engine does not wait for the reader.
  server.AwaitIdle();
  const Outcome outcome = call.ReadAll();
  EXPECT_TRUE(IsWholeStream(outcome.order)) << outcome.order;
  EXPECT_EQ(outcome.text, std::string(2000, 'a'));
}

TEST(GenerateTest, ManyStreamsEachGetTheirOwnAnswer) {
  std::vector<std::string> scripts;
  for (int i = 0; i < 24; ++i) {
    scripts.push_back(absl::StrCat("answer number ", i, std::string(i * 7, '.'), "~"));
  }
  TestServer server({.scripts = scripts});
  std::vector<Outcome> outcomes(scripts.size());
  std::vector<std::thread> clients;
  for (size_t i = 0; i < scripts.size(); ++i) {
    clients.emplace_back(
        [&, i] { outcomes[i] = Call(server, TestServer::Request(static_cast<int>(i))).ReadAll(); });
  }
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < scripts.size(); ++i) {
    EXPECT_TRUE(outcomes[i].status.ok());
    EXPECT_EQ(outcomes[i].text + "~", scripts[i]);
  }
  server.AwaitIdle();
}

TEST(GenerateTest, CancellingFreesTheRequest) {
  TestServer server({.scripts = {kEndless}});
  server.gate.HoldAfter(3);
  Call call(server, TestServer::Request(0));
  EXPECT_TRUE(call.Next().has_started());
  EXPECT_TRUE(call.Next().has_delta());
  server.gate.AwaitHeld();
  call.context.TryCancel();
  EXPECT_EQ(call.ReadAll().status.error_code(), grpc::StatusCode::CANCELLED);
  server.ExpectFreed(4);
  EXPECT_EQ(server.Metric(R"(sluice_requests_finished_total{reason="cancelled"})"), 1);
}

TEST(GenerateTest, CancellingFreesARequestThatWaits) {
  TestServer server(
      {.scripts = {kEndless}, .limits = {.max_running_requests = 1, .max_context = 4096}});
  server.gate.HoldAfter(0);
  Call first(server, TestServer::Request(0));
  server.gate.AwaitHeld();
  Call second(server, TestServer::Request(0));
  server.AwaitWaiting();
  second.context.TryCancel();
  EXPECT_EQ(second.ReadAll().status.error_code(), grpc::StatusCode::CANCELLED);
  first.context.TryCancel();
  EXPECT_EQ(first.ReadAll().status.error_code(), grpc::StatusCode::CANCELLED);
  server.ExpectFreed(1);
}

TEST(GenerateTest, ADroppedConnectionFreesTheRequest) {
  TestServer server({.scripts = {kEndless}});
  server.gate.HoldAfter(3);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  {
    grpc::ClientContext context;
    const auto stub = v1::Generation::NewStub(grpc::CreateCustomChannel(
        server.grpc->address(), grpc::InsecureChannelCredentials(), arguments));
    const auto reader = stub->Generate(&context, TestServer::Request(0));
    v1::GenerateResponse message;
    EXPECT_TRUE(reader->Read(&message));
    server.gate.AwaitHeld();
  }
  server.ExpectFreed(4);
  EXPECT_EQ(server.Metric(R"(sluice_requests_finished_total{reason="cancelled"})"), 1);
}

TEST(GenerateTest, APassedDeadlineFreesTheRequest) {
  TestServer server({.scripts = {kEndless}});
  server.gate.HoldAfter(0);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  const auto stub = server.generation();
  const auto reader = stub->Generate(&context, TestServer::Request(0));
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  server.ExpectFreed(1);
}

TEST(GenerateTest, AbortEndsTheStreamWithCancelled) {
  TestServer server({.scripts = {kEndless}});
  v1::GenerateRequest request = TestServer::Request(0);
  request.set_request_id("doomed");
  server.gate.HoldAfter(3);
  Call call(server, request);
  server.gate.AwaitHeld();
  const auto control = server.control();
  const auto abort = [&](const std::string& id) {
    grpc::ClientContext context;
    v1::AbortRequest abort_request;
    abort_request.set_request_id(id);
    v1::AbortResponse response;
    return control->Abort(&context, abort_request, &response).error_code();
  };
  EXPECT_EQ(abort("someone else"), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(abort(""), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(abort("doomed"), grpc::StatusCode::OK);
  server.gate.Open();
  EXPECT_EQ(call.ReadAll().status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(abort("doomed"), grpc::StatusCode::NOT_FOUND);
  server.AwaitIdle();
}

// Counts how often a text is encoded.
class CountingTokenizer final : public tokenizer::Tokenizer {
 public:
  absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text,
                                              EncodeOptions options) const override {
    ++num_texts;
    return fake_.Encode(text, options);
  }
  std::string Decode(absl::Span<const TokenId> ids, DecodeOptions options) const override {
    return fake_.Decode(ids, options);
  }
  int vocab_size() const override { return fake_.vocab_size(); }

  mutable std::atomic<int> num_texts{0};

 private:
  const FakeTokenizer fake_;
};

TEST(GenerateTest, AFullQueueIsNotedBeforeFieldsAreCheckedAndTextsTokenized) {
  const CountingTokenizer tokenizer;
  TestServer server(
      {.scripts = {kEndless},
       .limits = {.max_waiting_requests = 1, .max_running_requests = 1, .max_context = 40'000},
       .tokenizer = &tokenizer});
  server.gate.HoldAfter(0);
  Call running(server, TestServer::Request(0));
  server.gate.AwaitHeld();
  Call waiting(server, TestServer::Request(0));
  server.AwaitWaiting();
  v1::GenerateRequest request;
  v1::GenerateRequest long_request;
  // Two of its fields are wrong, and one is missing.
  v1::GenerateRequest wrong_request;
  request.set_text("0");
  long_request.set_text(std::string(30'000, '0'));
  wrong_request.set_model("another");
  wrong_request.set_num_choices(-1);
  for (const auto* any : {&request, &long_request, &wrong_request}) {
    Call refused(server, *any);
    EXPECT_EQ(refused.ReadAll().status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(refused.context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
  }
  EXPECT_EQ(tokenizer.num_texts, 0);
  EXPECT_EQ(server.Metric(R"(sluice_admission_rejections_total{reason="queue_full"})"), 3);
  waiting.context.TryCancel();
  running.context.TryCancel();
  waiting.ReadAll();
  running.ReadAll();
  server.gate.Open();
  server.AwaitIdle();
  request.mutable_stopping()->set_max_tokens(1);
  EXPECT_TRUE(Call(server, request).ReadAll().status.ok());
  EXPECT_EQ(tokenizer.num_texts, 1);
}

TEST(GenerateTest, OverloadIsRefusedBeforeAnyHeaderWithAHintWhenToComeBack) {
  TestServer server(
      {.scripts = {kEndless},
       .limits = {.max_waiting_requests = 1, .max_running_requests = 1, .max_context = 4096}});
  server.gate.HoldAfter(0);
  Call running(server, TestServer::Request(0));
  server.gate.AwaitHeld();
  Call waiting(server, TestServer::Request(0));
  server.AwaitWaiting();

  Call refused(server, TestServer::Request(0));
  const Outcome outcome = refused.ReadAll();
  EXPECT_EQ(outcome.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(outcome.order, "");
  const auto& trailers = refused.context.GetServerTrailingMetadata();
  const auto pushback = trailers.find("grpc-retry-pushback-ms");
  ASSERT_NE(pushback, trailers.end());
  int pushback_ms = 0;
  ASSERT_TRUE(absl::SimpleAtoi(absl::string_view(pushback->second.data(), pushback->second.size()),
                               &pushback_ms));
  EXPECT_GT(pushback_ms, 0);
  EXPECT_EQ(trailers.count("retry-after"), 1u);
  google::rpc::Status details;
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.ParseFromString(outcome.status.error_details()));
  ASSERT_TRUE(details.details(0).UnpackTo(&retry));
  EXPECT_EQ(retry.retry_delay().seconds() * 1000 + retry.retry_delay().nanos() / 1'000'000,
            pushback_ms);
  EXPECT_EQ(server.Metric(R"(sluice_admission_rejections_total{reason="queue_full"})"), 1);
  running.context.TryCancel();
  waiting.context.TryCancel();
}

TEST(GenerateTest, AnIdThatRunsAlreadyIsRefusedAndItsOwnerGoesOn) {
  TestServer server({.scripts = {"ab~"}});
  server.gate.HoldAfter(0);
  v1::GenerateRequest request = TestServer::Request(0);
  request.set_request_id("twice");
  Call first(server, request);
  server.gate.AwaitHeld();
  EXPECT_EQ(Call(server, request).ReadAll().status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  server.gate.Open();
  EXPECT_EQ(first.ReadAll().text, "ab");
  EXPECT_EQ(Call(server, request).ReadAll().text, "ab");
}

TEST(GenerateTest, StoppingTheEngineEndsStreamsWithUnavailable) {
  TestServer server({.scripts = {kEndless}});
  server.gate.HoldAfter(3);
  Call call(server, TestServer::Request(0));
  server.gate.AwaitHeld();
  std::thread stopping([&] { server.engine->Stop(); });
  // Until it knows that it is to stop, it goes on as before.
  const auto stream = std::make_shared<scheduler::TokenStream>([] {});
  const scheduler::Request another{.id = "another", .prompt = {0, 0}};
  while (!absl::IsUnavailable(server.engine->Submit(another, stream))) std::this_thread::yield();
  server.gate.Open();
  stopping.join();
  EXPECT_EQ(call.ReadAll().status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Call(server, TestServer::Request(0)).ReadAll().status.error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST(GenerateTest, WhileDrainingStreamsGoOnAndNewOnesAreRefused) {
  TestServer server({.scripts = {"the end~"}});
  server.gate.HoldAfter(0);
  Call running(server, TestServer::Request(0));
  server.gate.AwaitHeld();
  server.slot.Drain();
  EXPECT_EQ(Call(server, TestServer::Request(0)).ReadAll().status.error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_GE(server.active_calls.WaitUntilNone(absl::ZeroDuration()), 1);
  server.gate.Open();
  EXPECT_EQ(running.ReadAll().text, "the end");
  EXPECT_EQ(server.active_calls.WaitUntilNone(absl::InfiniteDuration()), 0);
}

TEST(GenerateTest, LongPromptsGoTheSameWay) {
  TestServer server({.scripts = {"ok~"}, .limits = {.max_context = 40'000}});
  v1::GenerateRequest request = TestServer::Request(0);
  for (int i = 0; i < 30'000; ++i) request.mutable_token_ids()->add_ids(200);
  request.mutable_stopping()->set_max_tokens(3);
  EXPECT_EQ(Call(server, request).ReadAll().started.prompt_tokens(), 30'002);
  request.mutable_token_ids()->add_ids(-1);
  const Outcome outcome = Call(server, request).ReadAll();
  EXPECT_EQ(outcome.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(absl::StartsWith(outcome.status.error_message(), "token_ids.ids[30002]: "));
}

}  // namespace
}  // namespace sluice::api
