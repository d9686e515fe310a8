// inference.GRPCInferenceService over a real connection.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "api/kserve_stream_reactor.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "inference/grpc_predict_v2.grpc.pb.h"
#include "test_server.h"

namespace sluice::api {
namespace {

using inference::GRPCInferenceService;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using inference::ModelStreamInferResponse;
using testing::TestServer;

constexpr char kEndless[] = "a";

void AddBytes(ModelInferRequest& request, const std::string& name, const std::string& value) {
  auto& input = *request.add_inputs();
  input.set_name(name);
  input.set_datatype("BYTES");
  input.add_shape(1);
  input.mutable_contents()->add_bytes_contents(value);
}

void AddBool(ModelInferRequest& request, const std::string& name, bool value) {
  auto& input = *request.add_inputs();
  input.set_name(name);
  input.set_datatype("BOOL");
  input.add_shape(1);
  input.mutable_contents()->add_bool_contents(value);
}

// A request that script number `script` answers.
ModelInferRequest Request(const std::string& id, int script, const std::string& sampling = "{}",
                          bool stream = true) {
  ModelInferRequest request;
  request.set_model_name("fake");
  request.set_id(id);
  AddBytes(request, "text_input", absl::StrCat(script));
  AddBytes(request, "sampling_parameters", sampling);
  AddBool(request, "stream", stream);
  return request;
}

ModelInferRequest UnaryRequest(int script, const std::string& sampling = "{}") {
  ModelInferRequest request = Request("u", script, sampling, /*stream=*/false);
  AddBool(request, "exclude_input_in_output", true);
  return request;
}

std::string TextOf(const ModelInferResponse& response) {
  return response.outputs_size() == 1 ? response.outputs(0).contents().bytes_contents(0) : "";
}

bool IsFinal(const ModelStreamInferResponse& response) {
  return response.infer_response().parameters().at("triton_final_response").bool_param();
}

double Requests(const TestServer& server, const std::string& method, const std::string& code) {
  // The order of labels is the library's own.
  const double value = std::max(server.Metric(absl::StrCat("sluice_requests_total{code=\"", code,
                                                           "\",method=\"", method, "\"}")),
                                server.Metric(absl::StrCat("sluice_requests_total{method=\"",
                                                           method, "\",code=\"", code, "\"}")));
  return std::max(value, 0.0);
}

class Stream {
 public:
  explicit Stream(const TestServer& server)
      : stub_(GRPCInferenceService::NewStub(server.channel)),
        stream_(stub_->ModelStreamInfer(&context)) {}

  void Send(const ModelInferRequest& request) { EXPECT_TRUE(TrySend(request)); }
  // Fails if the call has ended.
  bool TrySend(const ModelInferRequest& request) { return stream_->Write(request); }
  ModelStreamInferResponse Next() {
    ModelStreamInferResponse response;
    EXPECT_TRUE(stream_->Read(&response));
    return response;
  }
  // All that is still to come, after no more requests.
  std::vector<ModelStreamInferResponse> Rest() {
    stream_->WritesDone();
    std::vector<ModelStreamInferResponse> responses;
    ModelStreamInferResponse response;
    while (stream_->Read(&response)) responses.push_back(response);
    status = stream_->Finish();
    return responses;
  }

  grpc::ClientContext context;
  grpc::Status status;

 private:
  std::unique_ptr<GRPCInferenceService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<ModelInferRequest, ModelStreamInferResponse>> stream_;
};

struct Unary {
  grpc::ClientContext context;
  ModelInferResponse response;
  grpc::Status status;
};

std::unique_ptr<Unary> Infer(const TestServer& server, const ModelInferRequest& request) {
  auto call = std::make_unique<Unary>();
  call->status = GRPCInferenceService::NewStub(server.channel)
                     ->ModelInfer(&call->context, request, &call->response);
  return call;
}

TEST(KserveTest, TellsWhetherItIsReadyAndWhatItIs) {
  TestServer server({.scripts = {"a~"}, .ready = false});
  const auto stub = GRPCInferenceService::NewStub(server.channel);
  const auto live = [&] {
    grpc::ClientContext context;
    inference::ServerLiveResponse response;
    EXPECT_TRUE(stub->ServerLive(&context, {}, &response).ok());
    return response.live();
  };
  const auto ready = [&] {
    grpc::ClientContext context;
    inference::ServerReadyResponse response;
    EXPECT_TRUE(stub->ServerReady(&context, {}, &response).ok());
    return response.ready();
  };
  const auto model_ready = [&](const std::string& name, const std::string& version) {
    grpc::ClientContext context;
    inference::ModelReadyRequest request;
    request.set_name(name);
    request.set_version(version);
    inference::ModelReadyResponse response;
    EXPECT_TRUE(stub->ModelReady(&context, request, &response).ok());
    return response.ready();
  };
  inference::ModelMetadataResponse metadata;
  const auto describe = [&](const std::string& name, const std::string& version) {
    grpc::ClientContext context;
    inference::ModelMetadataRequest request;
    request.set_name(name);
    request.set_version(version);
    metadata.Clear();
    return stub->ModelMetadata(&context, request, &metadata).error_code();
  };
  EXPECT_TRUE(live());
  EXPECT_FALSE(ready());
  EXPECT_FALSE(model_ready("fake", ""));
  EXPECT_EQ(describe("fake", ""), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Infer(server, UnaryRequest(0))->status.error_code(), grpc::StatusCode::UNAVAILABLE);

  server.MakeReady();
  EXPECT_TRUE(live());
  EXPECT_TRUE(ready());
  EXPECT_TRUE(model_ready("fake", ""));
  EXPECT_TRUE(model_ready("fake", "1"));
  EXPECT_FALSE(model_ready("fake", "2"));
  EXPECT_FALSE(model_ready("other", ""));
  EXPECT_EQ(describe("other", ""), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(describe("fake", "2"), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(describe("", ""), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(describe("fake", "1"), grpc::StatusCode::OK);
  EXPECT_EQ(metadata.versions(0), "1");
  std::map<std::string, std::string> inputs;
  for (const auto& input : metadata.inputs()) inputs[input.name()] = input.datatype();
  EXPECT_THAT(inputs, ::testing::ElementsAre(::testing::Pair("exclude_input_in_output", "BOOL"),
                                             ::testing::Pair("sampling_parameters", "BYTES"),
                                             ::testing::Pair("stream", "BOOL"),
                                             ::testing::Pair("text_input", "BYTES")));
  EXPECT_EQ(metadata.outputs(0).name(), "text_output");
  EXPECT_EQ(Requests(server, "ModelReady", "OK"), 5);

  server.slot.Drain();
  EXPECT_TRUE(live());
  EXPECT_FALSE(ready());
  EXPECT_FALSE(model_ready("fake", ""));
}

TEST(KserveTest, InfersTheWholeAnswerAtOnce) {
  TestServer server({.scripts = {"hello wörld~"}});
  const auto call = Infer(server, UnaryRequest(0));
  EXPECT_TRUE(call->status.ok()) << call->status.error_message();
  EXPECT_EQ(TextOf(call->response), "hello wörld");
  EXPECT_EQ(call->response.id(), "u");
  EXPECT_EQ(call->response.model_name(), "fake");
  // The prompt comes with it unless it is excluded.
  EXPECT_EQ(TextOf(Infer(server, Request("", 0, "{}", false))->response), "0hello wörld");
  EXPECT_EQ(Requests(server, "ModelInfer", "OK"), 2);
  EXPECT_EQ(server.Metric(R"(sluice_requests_finished_total{reason="stop"})"), 2);
  EXPECT_EQ(Requests(server, "Generate", "OK"), 0);
}

TEST(KserveTest, AStopStringEndsTheAnswerAndFreesTheRequest) {
  TestServer server({.scripts = {"one two END and on and on"}});
  server.gate.HoldAfter(13);
  const auto call = Infer(server, UnaryRequest(0, R"({"stop": " END"})"));
  EXPECT_EQ(TextOf(call->response), "one two");
  server.gate.Open();
  server.AwaitIdle();
  Stream stream(server);
  server.gate.HoldAfter(13);
  stream.Send(Request("1", 0, R"({"stop": " END"})"));
  std::string text;
  for (const auto& response : stream.Rest()) text += TextOf(response.infer_response());
  EXPECT_EQ(text, "one two");
  server.gate.Open();
  server.AwaitIdle();
  EXPECT_LE(server.engine->Load().generated_tokens, 28) << "the engine went on after the end";
}

TEST(KserveTest, ErrorsAreThoseOfGenerateInTheWordsOfTheProtocol) {
  TestServer server({.scripts = {kEndless}});
  const auto generate = [&](v1::GenerateRequest request) {
    grpc::ClientContext context;
    const auto stub = server.generation();
    const auto reader = stub->Generate(&context, request);
    v1::GenerateResponse message;
    while (reader->Read(&message)) {
    }
    return reader->Finish();
  };
  v1::GenerateRequest hot;
  hot.set_text("0");
  hot.mutable_sampling()->set_temperature(200);
  v1::GenerateRequest other;
  other.set_text("0");
  other.set_model("other");
  v1::GenerateRequest long_answer;
  long_answer.set_text("0");
  long_answer.mutable_stopping()->set_max_tokens(1'000'000);
  ModelInferRequest kserve_other = UnaryRequest(0);
  kserve_other.set_model_name("other");
  ModelInferRequest kserve_parameter = UnaryRequest(0);
  kserve_parameter.mutable_inputs()->DeleteSubrange(1, 1);
  (*kserve_parameter.mutable_parameters())["temperature"].set_double_param(200);
  v1::GenerateRequest empty_stop;
  empty_stop.set_text("0");
  empty_stop.mutable_stopping()->add_stop_strings("a");
  empty_stop.mutable_stopping()->add_stop_strings("");
  v1::GenerateRequest long_text;
  long_text.set_text(std::string(5000, 'x'));
  ModelInferRequest kserve_long_text = UnaryRequest(0);
  kserve_long_text.mutable_inputs(0)->mutable_contents()->set_bytes_contents(0, long_text.text());
  const struct {
    v1::GenerateRequest own;
    ModelInferRequest foreign;
    std::string own_name;
    std::string foreign_name;
  } cases[] = {
      {hot, UnaryRequest(0, R"({"temperature": 200})"), "sampling.temperature",
       "sampling_parameters.temperature"},
      {hot, kserve_parameter, "sampling.temperature", "parameters.temperature"},
      {other, kserve_other, "model", "model_name"},
      {long_answer, UnaryRequest(0, R"({"max_tokens": "1000000"})"), "stopping.max_tokens",
       "sampling_parameters.max_tokens"},
      {empty_stop, UnaryRequest(0, R"({"stop": ["a", ""]})"), "stopping.stop_strings[1]",
       "sampling_parameters.stop[1]"},
      {long_text, kserve_long_text, "text", "text_input"},
  };
  Stream stream(server);
  for (const auto& [own, foreign, own_name, foreign_name] : cases) {
    SCOPED_TRACE(foreign_name);
    const grpc::Status expected = generate(own);
    EXPECT_FALSE(expected.ok());
    ASSERT_TRUE(absl::StartsWith(expected.error_message(), own_name + ": "));
    const std::string message = foreign_name + expected.error_message().substr(own_name.size());
    const grpc::Status status = Infer(server, foreign)->status;
    EXPECT_EQ(status.error_code(), expected.error_code());
    EXPECT_EQ(status.error_message(), message);
    if (status.error_code() == grpc::StatusCode::INVALID_ARGUMENT) {
      google::rpc::Status details;
      google::rpc::BadRequest bad_request;
      ASSERT_TRUE(details.ParseFromString(status.error_details()));
      ASSERT_TRUE(details.details(0).UnpackTo(&bad_request));
      EXPECT_EQ(bad_request.field_violations(0).field(), foreign_name);
    }
    stream.Send(foreign);
    const auto response = stream.Next();
    EXPECT_TRUE(absl::EndsWith(response.error_message(), ": " + message))
        << response.error_message();
    EXPECT_EQ(response.infer_response().id(), "u");
    EXPECT_TRUE(IsFinal(response));
  }
  // The stream lives on.
  stream.Send(Request("ok", 0, R"({"max_tokens": 3})", false));
  EXPECT_EQ(TextOf(stream.Next().infer_response()), "0aaa");
  EXPECT_TRUE(stream.Rest().empty());
  EXPECT_TRUE(stream.status.ok());
  EXPECT_EQ(Requests(server, "ModelStreamInfer", "INVALID_ARGUMENT"), 5);
  EXPECT_EQ(Requests(server, "ModelStreamInfer", "OK"), 1);
}

TEST(KserveTest, StreamsManyAnswersAtATime) {
  std::vector<std::string> scripts;
  for (int i = 0; i < 10; ++i)
    scripts.push_back(absl::StrCat("answer ", i, std::string(i * 9, '.'), "~"));
  TestServer server({.scripts = scripts});
  Stream stream(server);
  // More than may be open: the rest waits its turn.
  constexpr int kRequests = 2 * kMaxOpenRequests + 3;
  std::thread sender([&] {
    for (int i = 0; i < kRequests; ++i) stream.Send(Request(absl::StrCat(i), i % 10));
  });
  std::map<std::string, std::string> texts;
  std::map<std::string, int> finals;
  for (int ended = 0; ended < kRequests;) {
    const auto response = stream.Next();
    const std::string& id = response.infer_response().id();
    EXPECT_EQ(response.error_message(), "");
    EXPECT_EQ(finals[id], 0) << "a response after the last";
    texts[id] += TextOf(response.infer_response());
    if (IsFinal(response)) {
      ++finals[id];
      ++ended;
    }
  }
  sender.join();
  EXPECT_TRUE(stream.Rest().empty());
  EXPECT_TRUE(stream.status.ok());
  EXPECT_EQ(texts.size(), static_cast<size_t>(kRequests));
  for (const auto& [id, text] : texts) EXPECT_EQ(text + "~", scripts[std::stoi(id) % 10]);
  EXPECT_EQ(Requests(server, "ModelStreamInfer", "OK"), kRequests);
  EXPECT_EQ(server.active_calls.WaitUntilNone(absl::InfiniteDuration()), 0);
}

TEST(KserveTest, AStreamIsReadNoFurtherThanItsLimit) {
  TestServer server(
      {.scripts = {kEndless}, .limits = {.max_waiting_requests = 1000, .max_context = 4096}});
  server.gate.HoldAfter(0);
  Stream stream(server);
  for (size_t i = 0; i < kMaxOpenRequests + 5; ++i) stream.Send(Request("x", 0));
  const auto open = [&] {
    const auto load = server.engine->Load();
    return load.waiting_requests + load.running_requests;
  };
  while (open() < static_cast<int>(kMaxOpenRequests)) std::this_thread::yield();
  // Another stream is served all the same, after the five that must not have been read.
  Stream other(server);
  other.Send(Request("y", 0));
  while (open() < static_cast<int>(kMaxOpenRequests) + 1) std::this_thread::yield();
  EXPECT_EQ(open(), static_cast<int>(kMaxOpenRequests) + 1);
  EXPECT_EQ(server.active_calls.WaitUntilNone(absl::ZeroDuration()),
            static_cast<int>(kMaxOpenRequests) + 1);
  stream.context.TryCancel();
  other.context.TryCancel();
  stream.Rest();
  other.Rest();
  EXPECT_EQ(server.active_calls.WaitUntilNone(absl::InfiniteDuration()), 0);
}

TEST(KserveTest, TheLastResponseIsMarked) {
  TestServer server({.scripts = {"abc~"}});
  Stream stream(server);
  stream.Send(Request("plain", 0));
  std::string text;
  for (;;) {
    const auto response = stream.Next();
    EXPECT_EQ(response.infer_response().outputs_size(), 1);
    text += TextOf(response.infer_response());
    if (IsFinal(response)) break;
  }
  EXPECT_EQ(text, "abc");

  ModelInferRequest request = Request("empty", 0);
  (*request.mutable_parameters())["triton_enable_empty_final_response"].set_bool_param(true);
  stream.Send(request);
  text.clear();
  for (;;) {
    const auto response = stream.Next();
    text += TextOf(response.infer_response());
    EXPECT_EQ(response.infer_response().outputs_size(), IsFinal(response) ? 0 : 1);
    if (IsFinal(response)) break;
  }
  EXPECT_EQ(text, "abc");

  ModelInferRequest whole = UnaryRequest(0);
  (*whole.mutable_parameters())["triton_enable_empty_final_response"].set_bool_param(true);
  stream.Send(whole);
  const auto response = stream.Next();
  EXPECT_TRUE(IsFinal(response));
  EXPECT_EQ(TextOf(response.infer_response()), "abc");
  EXPECT_TRUE(stream.Rest().empty());
}

TEST(KserveTest, CancellingFreesAllRequestsOfAStream) {
  TestServer server({.scripts = {kEndless}});
  server.gate.HoldAfter(4);
  Stream stream(server);
  for (int i = 0; i < 3; ++i) stream.Send(Request(absl::StrCat(i), 0));
  EXPECT_FALSE(IsFinal(stream.Next()));
  server.gate.AwaitHeld();
  const auto open = [&] {
    const auto load = server.engine->Load();
    return load.waiting_requests + load.running_requests;
  };
  while (open() < 3) std::this_thread::yield();
  stream.context.TryCancel();
  stream.Rest();
  EXPECT_EQ(stream.status.error_code(), grpc::StatusCode::CANCELLED);
  server.ExpectFreed(15);
  EXPECT_EQ(server.Metric(R"(sluice_requests_finished_total{reason="cancelled"})"), 3);
}

TEST(KserveTest, OnlySoManyStreamsMayBeOpenWhetherTheyCarryRequestsOrNot) {
  TestServer server({.scripts = {"ok~"}, .max_active_requests = 2});
  const auto answer = [](Stream& stream) {
    stream.Send(UnaryRequest(0));
    return TextOf(stream.Next().infer_response());
  };
  Stream first(server);
  auto second = std::make_unique<Stream>(server);
  EXPECT_EQ(answer(first), "ok");
  EXPECT_EQ(answer(*second), "ok");
  // Both are idle.
  EXPECT_EQ(server.active_calls.WaitUntilNone(absl::InfiniteDuration()), 0);
  Stream third(server);
  EXPECT_TRUE(third.Rest().empty());
  EXPECT_EQ(third.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(third.context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
  EXPECT_EQ(server.Metric(R"(sluice_admission_rejections_total{reason="too_many_calls"})"), 1);
  EXPECT_EQ(answer(first), "ok");
  EXPECT_TRUE(second->Rest().empty());
  EXPECT_TRUE(second->status.ok());
  // Its place is free once the server has noticed, too.
  for (;;) {
    Stream next(server);
    next.TrySend(UnaryRequest(0));
    const auto responses = next.Rest();
    if (next.status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) continue;
    ASSERT_EQ(responses.size(), 1u);
    EXPECT_EQ(TextOf(responses[0].infer_response()), "ok");
    break;
  }
}

TEST(KserveTest, ANameThatNoModelHasIsNotRepeatedInFull) {
  TestServer server({.scripts = {"ok~"}});
  Stream stream(server);
  for (const size_t size : {256, 257, 1'000'000}) {
    ModelInferRequest request = UnaryRequest(0);
    request.set_model_name(std::string(size, 'm'));
    stream.Send(request);
    const auto response = stream.Next();
    EXPECT_TRUE(absl::StartsWith(response.error_message(), "NOT_FOUND: model_name: "));
    EXPECT_EQ(response.infer_response().model_name().size(), size == 256 ? 256 : 0);
    EXPECT_LT(response.ByteSizeLong(), 2000u);
  }
}

TEST(KserveTest, CancellingFreesAUnaryRequest) {
  TestServer server({.scripts = {kEndless}});
  server.gate.HoldAfter(3);
  grpc::ClientContext context;
  grpc::Status status;
  std::thread client([&] {
    ModelInferResponse response;
    status = GRPCInferenceService::NewStub(server.channel)
                 ->ModelInfer(&context, UnaryRequest(0), &response);
  });
  server.gate.AwaitHeld();
  context.TryCancel();
  client.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  server.ExpectFreed(4);
  EXPECT_EQ(server.Metric(R"(sluice_requests_finished_total{reason="cancelled"})"), 1);
}

TEST(KserveTest, APassedDeadlineFreesTheRequestsOfAStream) {
  TestServer server({.scripts = {kEndless}});
  server.gate.HoldAfter(0);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  const auto stub = GRPCInferenceService::NewStub(server.channel);
  const auto stream = stub->ModelStreamInfer(&context);
  stream->Write(Request("1", 0));
  ModelStreamInferResponse response;
  while (stream->Read(&response)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  server.ExpectFreed(1);
}

TEST(KserveTest, OverloadIsRefusedWithAHintWhenToComeBack) {
  TestServer server(
      {.scripts = {kEndless},
       .limits = {.max_waiting_requests = 1, .max_running_requests = 1, .max_context = 4096}});
  server.gate.HoldAfter(0);
  Stream running(server);
  running.Send(Request("r", 0));
  server.gate.AwaitHeld();
  Stream waiting(server);
  waiting.Send(Request("w", 0));
  server.AwaitWaiting();

  const auto refused = Infer(server, UnaryRequest(0));
  EXPECT_EQ(refused->status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refused->context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
  waiting.Send(Request("2", 0));
  const auto response = waiting.Next();
  EXPECT_TRUE(absl::StartsWith(response.error_message(), "RESOURCE_EXHAUSTED: "));
  EXPECT_EQ(response.infer_response().id(), "2");
  EXPECT_GT(response.infer_response().parameters().at("retry_pushback_ms").int64_param(), 0);
  running.context.TryCancel();
  waiting.context.TryCancel();
}

TEST(KserveTest, StoppingTheEngineEndsRequestsWithUnavailableAndTheStreamLivesOn) {
  TestServer server({.scripts = {kEndless}});
  server.gate.HoldAfter(3);
  Stream stream(server);
  stream.Send(Request("1", 0));
  server.gate.AwaitHeld();
  std::thread stopping([&] { server.engine->Stop(); });
  const auto sink = std::make_shared<scheduler::TokenStream>([] {});
  const scheduler::Request another{.id = "another", .prompt = {0, 0}};
  while (!absl::IsUnavailable(server.engine->Submit(another, sink))) std::this_thread::yield();
  server.gate.Open();
  stopping.join();
  std::string error;
  while (error.empty()) error = stream.Next().error_message();
  EXPECT_TRUE(absl::StartsWith(error, "UNAVAILABLE: ")) << error;
  stream.Send(Request("2", 0));
  EXPECT_TRUE(absl::StartsWith(stream.Next().error_message(), "UNAVAILABLE: "));
  EXPECT_TRUE(stream.Rest().empty());
}

TEST(KserveTest, LongPromptsGoTheSameWay) {
  TestServer server({.scripts = {"ok~"}, .limits = {.max_context = 40'000}});
  ModelInferRequest request = UnaryRequest(0);
  // A byte is a token: the fake model answers this with its last letter for ever.
  request.mutable_inputs(0)->mutable_contents()->set_bytes_contents(0,
                                                                    "0" + std::string(30'000, 'x'));
  Stream stream(server);
  stream.Send(request);
  EXPECT_EQ(stream.Next().error_message(), "");
  request.mutable_inputs(0)->mutable_contents()->set_bytes_contents(0, std::string(50'000, 'x'));
  stream.Send(request);
  EXPECT_TRUE(absl::StartsWith(stream.Next().error_message(), "INVALID_ARGUMENT: text_input: "));
  EXPECT_EQ(Infer(server, request)->status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(stream.Rest().empty());
}

}  // namespace
}  // namespace sluice::api
