// Who may call, and what is written down about it, over a real connection.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "api/access_log.h"
#include "api/authenticator.h"
#include "inference/grpc_predict_v2.grpc.pb.h"
#include "support/temp_folder.h"
#include "test_server.h"

namespace sluice::api {
namespace {

using nlohmann::json;
using ::testing::SizeIs;
using testing::TestServer;

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";

std::string TokenLine(const std::string& name, const std::string& token,
                      const std::string& limits) {
  const TokenHash hash = HashToken(token);
  return absl::StrCat(name, " ",
                      absl::BytesToHexString(absl::string_view(
                          reinterpret_cast<const char*>(hash.data()), hash.size())),
                      " ", limits, "\n");
}

// A server that wants tokens and logs calls to a file.
class AccessTest : public ::testing::Test {
 protected:
  void Start(const std::string& tokens, bool log_prompts = false) {
    log_path_ = folder_.File("log", "");
    access_log_ = *AccessLog::Open({.file = log_path_, .log_prompts = log_prompts});
    if (!tokens.empty()) {
      authenticator_ = *Authenticator::Load(folder_.File("tokens", tokens), base::Clock::System());
    }
    server_ =
        std::make_unique<TestServer>(TestServer::Options{.scripts = {"abc~", "a"},
                                                         .authenticator = authenticator_.get(),
                                                         .access_log = access_log_.get()});
  }

  // The lines that were logged. Stops the server.
  std::vector<json> Lines() {
    server_.reset();
    access_log_.reset();
    std::vector<json> lines;
    std::ifstream file(log_path_);
    for (std::string line; std::getline(file, line);) {
      lines.push_back(json::parse(line, nullptr, false));
      EXPECT_TRUE(lines.back().is_object()) << line;
    }
    return lines;
  }

  static void SetToken(const std::string& token, grpc::ClientContext& context) {
    if (!token.empty()) context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
  }

  // A call of Generate from beginning to end.
  grpc::Status Generate(const std::string& token, grpc::ClientContext& context,
                        const v1::GenerateRequest& request = TestServer::Request(0)) {
    SetToken(token, context);
    const auto stub = server_->generation();
    const auto reader = stub->Generate(&context, request);
    v1::GenerateResponse message;
    while (reader->Read(&message)) {
    }
    return reader->Finish();
  }
  grpc::Status Generate(const std::string& token) {
    grpc::ClientContext context;
    return Generate(token, context);
  }

  // A unary call with an empty request, or the first answer of a stream to one.
  grpc::Status CallRaw(const std::string& method, const std::string& token,
                       const std::string& bytes = "") {
    grpc::ClientContext context;
    SetToken(token, context);
    return server_->CallRaw(context, method, bytes);
  }

  const testing::TempFolder folder_;
  std::string log_path_;
  std::unique_ptr<AccessLog> access_log_;
  std::unique_ptr<Authenticator> authenticator_;
  std::unique_ptr<TestServer> server_;
};

TEST_F(AccessTest, EveryServiceButHealthWantsAToken) {
  Start(TokenLine("alice", "open sesame", ""));
  const struct {
    const char* method;
    grpc::StatusCode with_token;
  } rows[] = {
      {"/sluice.v1.Generation/Tokenize", grpc::StatusCode::INVALID_ARGUMENT},
      {"/sluice.v1.Generation/Detokenize", grpc::StatusCode::OK},
      {"/sluice.v1.Generation/Generate", grpc::StatusCode::INVALID_ARGUMENT},
      {"/sluice.v1.Control/GetServerInfo", grpc::StatusCode::OK},
      {"/sluice.v1.Control/GetModelInfo", grpc::StatusCode::OK},
      {"/sluice.v1.Control/GetLoad", grpc::StatusCode::OK},
      {"/sluice.v1.Control/GetExpertLoad", grpc::StatusCode::OK},
      {"/sluice.v1.Control/Abort", grpc::StatusCode::INVALID_ARGUMENT},
      {"/inference.GRPCInferenceService/ServerLive", grpc::StatusCode::OK},
      {"/inference.GRPCInferenceService/ModelInfer", grpc::StatusCode::INVALID_ARGUMENT},
      // What is wrong with a request of a stream is told on the stream.
      {"/inference.GRPCInferenceService/ModelStreamInfer", grpc::StatusCode::OK},
      {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", grpc::StatusCode::OK},
  };
  for (const auto& row : rows) {
    // Reflection: list the services.
    const std::string bytes = std::string(row.method).find("Reflection") != std::string::npos
                                  ? std::string("\x3A\x01*")
                                  : std::string();
    EXPECT_EQ(CallRaw(row.method, "open sesame", bytes).error_code(), row.with_token) << row.method;
    for (const char* token : {"", "open sesam", "alice"}) {
      const grpc::Status status = CallRaw(row.method, token, bytes);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << row.method << token;
      EXPECT_NE(status.error_message().find("token"), std::string::npos) << status.error_message();
    }
    EXPECT_TRUE(CallRaw("/grpc.health.v1.Health/Check", "").ok());
  }
  EXPECT_TRUE(Generate("open sesame").ok());
  EXPECT_EQ(server_->Metric(R"(sluice_admission_rejections_total{reason="unauthenticated"})"), 9);
  server_->AwaitIdle();
  for (const json& line : Lines()) {
    EXPECT_EQ(line["status"] == "UNAUTHENTICATED", !line.contains("token")) << line;
    EXPECT_EQ(line.value("token", "alice"), "alice") << line;
    EXPECT_EQ(line.dump().find("sesam"), std::string::npos) << line;
  }
}

TEST_F(AccessTest, BeyondItsLimitsATokenIsToldWhenToComeBack) {
  Start(TokenLine("one", "1", "concurrent=1") + TokenLine("rare", "2", "requests_per_second=0.01"));
  server_->gate.HoldAfter(0);
  grpc::ClientContext open_context;
  SetToken("1", open_context);
  const auto stub = server_->generation();
  const auto open = stub->Generate(&open_context, TestServer::Request(0));
  server_->gate.AwaitHeld();
  grpc::ClientContext context;
  const grpc::Status status = Generate("1", context);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto pushback = trailers.find("grpc-retry-pushback-ms");
  ASSERT_NE(pushback, trailers.end());
  EXPECT_EQ(std::string(pushback->second.data(), pushback->second.size()), "1000");
  EXPECT_EQ(trailers.count("retry-after"), 1u);
  // Unary calls are held to the same, and are told the same.
  EXPECT_EQ(CallRaw("/sluice.v1.Control/GetLoad", "1").error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  server_->gate.Open();
  v1::GenerateResponse message;
  while (open->Read(&message)) {
  }
  EXPECT_TRUE(open->Finish().ok());
  // Who has heard that his call ended may begin the next.
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(Generate("1").ok());

  EXPECT_TRUE(CallRaw("/sluice.v1.Control/GetLoad", "2").ok());
  EXPECT_EQ(CallRaw("/sluice.v1.Control/GetLoad", "2").error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(server_->Metric(R"(sluice_admission_rejections_total{reason="token_limit"})"), 1);
}

// Each request on a stream is held to its token's limits, and the stream itself takes no place.
TEST_F(AccessTest, RequestsOfAStreamAreHeldToTheirTokensLimits) {
  Start(TokenLine("one", "1", "concurrent=1"));
  server_->gate.HoldAfter(0);
  const auto stub = inference::GRPCInferenceService::NewStub(server_->channel);
  grpc::ClientContext context;
  SetToken("1", context);
  const auto stream = stub->ModelStreamInfer(&context);
  inference::ModelStreamInferResponse response;
  const auto send = [&](const std::string& id) {
    inference::ModelInferRequest request;
    request.set_model_name("fake");
    request.set_id(id);
    auto& input = *request.add_inputs();
    input.set_name("text_input");
    input.set_datatype("BYTES");
    input.add_shape(1);
    input.mutable_contents()->add_bytes_contents("0");
    ASSERT_TRUE(stream->Write(request));
  };
  send("first");
  server_->gate.AwaitHeld();
  send("second");
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.infer_response().id(), "second");
  EXPECT_THAT(response.error_message(), ::testing::StartsWith("RESOURCE_EXHAUSTED"));
  server_->gate.Open();
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.infer_response().id(), "first");
  EXPECT_EQ(response.error_message(), "");
  // Who has heard that his request ended may send the next.
  for (int i = 0; i < 20; ++i) {
    send("next");
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.error_message(), "");
  }
  EXPECT_EQ(server_->Metric(R"(sluice_admission_rejections_total{reason="token_limit"})"), 1);
  // A token that is taken back opens nothing more, also on a stream that it opened.
  folder_.File("tokens", TokenLine("other", "2", ""));
  authenticator_->Reload();
  send("late");
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_THAT(response.error_message(), ::testing::StartsWith("UNAUTHENTICATED"));
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(AccessTest, ALineTellsWhatACallWas) {
  Start("");
  grpc::ClientContext context;
  context.AddMetadata("traceparent", absl::StrCat("00-", kTrace, "-00f067aa0ba902b7-01"));
  v1::GenerateRequest request = TestServer::Request(0);
  request.set_request_id("mine");
  EXPECT_TRUE(Generate("", context, request).ok());
  request.clear_prompt();
  grpc::ClientContext refused_context;
  refused_context.AddMetadata("traceparent", absl::StrCat("00-", kTrace, "-0000000000000000-01"));
  EXPECT_FALSE(Generate("", refused_context, request).ok());
  EXPECT_TRUE(CallRaw("/sluice.v1.Control/GetLoad", "").ok());

  const std::vector<json> lines = Lines();
  ASSERT_THAT(lines, SizeIs(3));
  const json& line = lines[0];
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, line["time"].get<std::string>(), &time, &error))
      << error;
  EXPECT_EQ(line["request_id"], "mine");
  EXPECT_EQ(line["method"], "Generate");
  EXPECT_EQ(line["peer"].get<std::string>().rfind("ipv4:127.0.0.1:", 0), 0u) << line;
  EXPECT_FALSE(line.contains("token"));
  EXPECT_EQ(line["model"], "fake");
  EXPECT_EQ(line["status"], "OK");
  EXPECT_EQ(line["finish_reason"], "stop");
  EXPECT_EQ(line["prompt_tokens"], 2);
  EXPECT_EQ(line["cached_prompt_tokens"], 0);
  EXPECT_EQ(line["generated_tokens"], 4);
  EXPECT_EQ(line["trace_id"], kTrace);
  EXPECT_GE(line["queue_seconds"].get<double>(), 0);
  EXPECT_GE(line["first_token_seconds"].get<double>(), line["queue_seconds"].get<double>());
  EXPECT_GE(line["seconds"].get<double>(), line["first_token_seconds"].get<double>());
  EXPECT_FALSE(line.contains("prompt"));
  EXPECT_FALSE(line.contains("answers"));

  EXPECT_EQ(lines[1]["status"], "INVALID_ARGUMENT");
  EXPECT_EQ(lines[1]["method"], "Generate");
  EXPECT_FALSE(lines[1].contains("trace_id"));
  EXPECT_FALSE(lines[1].contains("generated_tokens"));
  EXPECT_EQ(lines[2]["method"], "GetLoad");
  EXPECT_EQ(lines[2]["status"], "OK");
}

TEST_F(AccessTest, CallsThatEndBadlyHaveALineToo) {
  Start("");
  server_->gate.HoldAfter(2);
  grpc::ClientContext context;
  {
    const auto stub = server_->generation();
    const auto reader = stub->Generate(&context, TestServer::Request(1));
    v1::GenerateResponse message;
    EXPECT_TRUE(reader->Read(&message));
    context.TryCancel();
    reader->Finish();
  }
  server_->gate.Open();
  server_->AwaitIdle();
  const std::vector<json> lines = Lines();
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_EQ(lines[0]["status"], "CANCELLED");
  EXPECT_EQ(lines[0]["finish_reason"], "cancelled");
}

TEST_F(AccessTest, WhoIsBeyondHisLimitsIsNamedToo) {
  Start(TokenLine("rare", "2", "requests_per_second=0.01"));
  EXPECT_TRUE(CallRaw("/sluice.v1.Control/GetLoad", "2").ok());
  EXPECT_FALSE(CallRaw("/sluice.v1.Control/GetLoad", "2").ok());
  EXPECT_FALSE(CallRaw("/sluice.v1.Control/GetLoad", "unknown").ok());
  const std::vector<json> lines = Lines();
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_EQ(lines[1]["status"], "RESOURCE_EXHAUSTED");
  EXPECT_EQ(lines[1]["token"], "rare");
  EXPECT_EQ(lines[2]["status"], "UNAUTHENTICATED");
  EXPECT_FALSE(lines[2].contains("token"));
}

TEST_F(AccessTest, PromptsAndAnswersAreLoggedOnlyIfAFlagSaysSo) {
  for (const bool log_prompts : {false, true}) {
    Start("", log_prompts);
    grpc::ClientContext context;
    EXPECT_TRUE(Generate("", context).ok());
    const std::vector<json> lines = Lines();
    ASSERT_THAT(lines, SizeIs(1));
    EXPECT_EQ(lines[0].contains("prompt"), log_prompts);
    EXPECT_EQ(lines[0].contains("answers"), log_prompts);
    if (log_prompts) {
      EXPECT_EQ(lines[0]["prompt"], json::array({0, 0}));
      EXPECT_EQ(lines[0]["answers"], json::array({"abc"}));
    }
  }
}

TEST_F(AccessTest, MoreMetadataThanTheLimitIsRefused) {
  Start("");
  for (const size_t bytes : {8 * 1024, 64 * 1024}) {
    grpc::ClientContext context;
    context.AddMetadata("x-large", std::string(bytes, 'x'));
    const grpc::Status status = Generate("", context);
    EXPECT_EQ(status.error_code(),
              bytes < 16 * 1024 ? grpc::StatusCode::OK : grpc::StatusCode::RESOURCE_EXHAUSTED)
        << status.error_message();
  }
}

}  // namespace
}  // namespace sluice::api
