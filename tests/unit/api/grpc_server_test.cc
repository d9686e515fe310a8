// The port: health, loading, the unary methods, and bytes that are no requests.
#include "api/grpc_server.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "api/wire_message.h"
#include "test_server.h"

namespace sluice::api {
namespace {

using ::testing::ElementsAre;
using testing::FakeTokenizer;
using testing::TestServer;

grpc::Status CallRaw(const TestServer& server, const std::string& method, const std::string& bytes,
                     std::string* response = nullptr) {
  grpc::ClientContext context;
  return server.CallRaw(context, method, bytes, response);
}

// What grpc.health.v1.Health/Check says of `service`: 1 is SERVING, 2 NOT_SERVING.
int Health(const TestServer& server, const std::string& service) {
  std::string request;
  if (!service.empty()) request = absl::StrCat("\x0A", std::string(1, service.size()), service);
  std::string response;
  const auto status = CallRaw(server, "/grpc.health.v1.Health/Check", request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.size() == 2 ? response[1] : 0;
}

template <typename Request, typename Response>
Response CallOk(grpc::Status (v1::Control::Stub::*method)(grpc::ClientContext*, const Request&,
                                                          Response*),
                const TestServer& server, const Request& request = {}) {
  grpc::ClientContext context;
  Response response;
  const auto status = (server.control().get()->*method)(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response;
}

TEST(GrpcServerTest, WhileTheModelLoadsItIsAliveButNotReady) {
  TestServer server({.scripts = {"a~"}, .ready = false});
  EXPECT_EQ(Health(server, ""), 1);
  EXPECT_EQ(Health(server, "sluice.v1.Generation"), 2);
  EXPECT_EQ(Health(server, "sluice.v1.Control"), 2);
  EXPECT_FALSE(CallOk(&v1::Control::Stub::GetServerInfo, server).ready());
  for (const char* method : {"Generation/Generate", "Generation/Tokenize", "Generation/Detokenize",
                             "Control/GetModelInfo", "Control/GetLoad", "Control/GetExpertLoad"}) {
    const auto status = CallRaw(server, absl::StrCat("/sluice.v1.", method), "");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << method;
    EXPECT_EQ(status.error_message(), "the model is loading") << method;
  }
  EXPECT_EQ(server.Metric(R"(sluice_admission_rejections_total{reason="loading"})"), 1);

  server.MakeReady();
  EXPECT_EQ(Health(server, ""), 1);
  EXPECT_EQ(Health(server, "sluice.v1.Generation"), 1);
  EXPECT_EQ(Health(server, "sluice.v1.Control"), 1);
  EXPECT_TRUE(CallOk(&v1::Control::Stub::GetServerInfo, server).ready());
  grpc::ClientContext context;
  const auto stub = server.generation();
  const auto reader = stub->Generate(&context, TestServer::Request(0));
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST(GrpcServerTest, TellsWhatItIs) {
  TestServer server({.scripts = {"a~"}});
  const auto info = CallOk(&v1::Control::Stub::GetServerInfo, server);
  EXPECT_EQ(info.version(), "1.2.3");
  EXPECT_EQ(info.start_time().seconds(), 1'000'000'000);
  EXPECT_EQ(info.num_threads(), 2);
  EXPECT_EQ(info.isa(), "avx512");
  EXPECT_THAT(info.kernels(), ElementsAre("gemm: x"));
  EXPECT_EQ(CallOk(&v1::Control::Stub::GetModelInfo, server).name(), "fake");
}

TEST(GrpcServerTest, TellsHowBusyItIs) {
  TestServer server({.scripts = {"abc~"}});
  server.gate.HoldAfter(0);
  grpc::ClientContext context;
  const auto stub = server.generation();
  v1::GenerateRequest generate = TestServer::Request(0);
  generate.mutable_stopping()->set_max_tokens(10);
  const auto reader = stub->Generate(&context, generate);
  server.gate.AwaitHeld();
  auto load = CallOk(&v1::Control::Stub::GetLoad, server);
  EXPECT_EQ(load.running_requests(), 1);
  EXPECT_EQ(load.total_kv_blocks(), 4096);
  EXPECT_EQ(load.free_kv_blocks(), 4095);
  EXPECT_DOUBLE_EQ(load.kv_cache_usage(), 1.0 / 4096);
  EXPECT_EQ(load.max_waiting_requests(), 256);
  EXPECT_EQ(load.max_running_requests(), 64);
  server.gate.Open();
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
  load = CallOk(&v1::Control::Stub::GetLoad, server);
  EXPECT_EQ(load.running_requests(), 0);
  EXPECT_EQ(load.prompt_tokens(), 2);
  EXPECT_EQ(load.generated_tokens(), 4);
  EXPECT_EQ(load.kv_cache_usage(), 0);

  // The last token is drawn, but not computed: the experts have seen 0, 0, a, b and c.
  const auto experts = CallOk(&v1::Control::Stub::GetExpertLoad, server);
  ASSERT_EQ(experts.layers_size(), 1);
  EXPECT_EQ(experts.steps(), 4);
  EXPECT_THAT(experts.layers(0).tokens(), ElementsAre(2, 1, 1, 1));
}

TEST(GrpcServerTest, ExpertLoadOfALayerThatHasNoneIsInvalid) {
  TestServer server({.scripts = {"abc~"}});
  v1::GetExpertLoadRequest request;
  request.add_layers(0);
  EXPECT_EQ(CallOk(&v1::Control::Stub::GetExpertLoad, server, request).layers_size(), 1);
  for (const int layer : {1, -1}) {
    v1::GetExpertLoadRequest wrong = request;
    wrong.add_layers(layer);
    const auto status =
        CallRaw(server, "/sluice.v1.Control/GetExpertLoad", wrong.SerializeAsString());
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_TRUE(absl::StartsWith(status.error_message(), "layers[1]: ")) << status.error_message();
  }
}

TEST(GrpcServerTest, TokenizesShortAndLongTexts) {
  TestServer server({.scripts = {"a~"}});
  const auto stub = server.generation();
  for (const int size : {3, 1'000'000}) {
    grpc::ClientContext context;
    v1::TokenizeRequest request;
    request.set_text(std::string(size, 'x'));
    v1::TokenizeResponse response;
    ASSERT_TRUE(stub->Tokenize(&context, request, &response).ok());
    EXPECT_EQ(response.token_ids_size(), size + 1);
  }
  grpc::ClientContext context;
  v1::DetokenizeRequest request;
  request.add_token_ids(FakeTokenizer::kBos);
  request.add_token_ids('x');
  v1::DetokenizeResponse response;
  ASSERT_TRUE(stub->Detokenize(&context, request, &response).ok());
  EXPECT_EQ(response.text(), "x");
}

TEST(GrpcServerTest, GarbageIsRefusedAndTheServerGoesOn) {
  TestServer server({.scripts = {"a~"}});
  const struct {
    std::string method;
    std::string bytes;
    std::string message;
  } rows[] = {
      {"Generation/Generate", "\x1A\x02\xFF\xFE", "text: is not UTF-8"},
      {"Generation/Tokenize", "\x12\x01\x80", "text: is not UTF-8"},
      {"Generation/Generate", std::string("\x1A\xFFgarbage", 9),
       "the request is not a sluice.v1.GenerateRequest message"},
      {"Generation/Detokenize", "\xFF", "the request is not a sluice.v1.DetokenizeRequest message"},
      {"Control/Abort", "\x0A\x01\x80", "request_id: is not UTF-8"},
      {"Control/GetLoad", "\xFF", "the request is not a sluice.v1.GetLoadRequest message"},
      {"Generation/Generate", "\x1A" + std::string("\xA0\x8D\x06") + std::string(100'000, '\xFF'),
       "text: is not UTF-8"},
  };
  for (const auto& row : rows) {
    const auto status = CallRaw(server, absl::StrCat("/sluice.v1.", row.method), row.bytes);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << row.message;
    EXPECT_EQ(status.error_message(), row.message);
  }
  EXPECT_EQ(CallRaw(server, "/sluice.v1.Generation/NoSuchMethod", "").error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(Health(server, "sluice.v1.Generation"), 1);
}

TEST(GrpcServerTest, AMessageBeyondTheLimitIsRefused) {
  TestServer server({.scripts = {"a~"}, .grpc = {.max_message_bytes = 100'000}});
  for (const char* method : {"Generation/Generate", "Generation/Tokenize"}) {
    const auto status =
        CallRaw(server, absl::StrCat("/sluice.v1.", method), std::string(5 * 1024 * 1024, 'x'));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  }
  EXPECT_EQ(Health(server, ""), 1);
}

TEST(GrpcServerTest, MoreTextThanMemoryIsSlowedDownOrRefused) {
  TestServer server({.scripts = {"a~"}, .grpc = {.max_buffer_bytes = 16 << 20}});
  v1::TokenizeRequest request;
  request.set_text(std::string(3 << 20, 'x'));
  std::vector<std::thread> clients;
  for (int i = 0; i < 12; ++i) {
    clients.emplace_back([&] {
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
      arguments.SetMaxReceiveMessageSize(-1);
      const auto stub = v1::Generation::NewStub(grpc::CreateCustomChannel(
          server.grpc->address(), grpc::InsecureChannelCredentials(), arguments));
      grpc::ClientContext context;
      v1::TokenizeResponse response;
      const auto status = stub->Tokenize(&context, request, &response);
      EXPECT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED ||
                  status.error_code() == grpc::StatusCode::UNAVAILABLE)
          << status.error_code() << ": " << status.error_message();
    });
  }
  for (std::thread& client : clients) client.join();
  // What the calls held is given back some time after they ended. Until then gRPC may end others,
  // with ENHANCE_YOUR_CALM (11 in HTTP/2), and close connections.
  request.set_text("ab");
  for (;;) {
    grpc::ClientContext context;
    v1::TokenizeResponse response;
    const auto status = server.generation()->Tokenize(&context, request, &response);
    if (status.ok()) break;
    ASSERT_TRUE(status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED ||
                status.error_code() == grpc::StatusCode::UNAVAILABLE)
        << status.error_code() << ": " << status.error_message();
  }
}

// Further calls wait at the client, and go on when others have ended.
TEST(GrpcServerTest, AConnectionHasOnlySoManyCallsOpen) {
  TestServer server({.scripts = {"a~"}, .grpc = {.max_concurrent_streams = 2}});
  server.gate.HoldAfter(0);
  std::vector<std::thread> clients;
  std::atomic<int> num_ended{0};
  for (int i = 0; i < 5; ++i) {
    clients.emplace_back([&] {
      grpc::ClientContext context;
      const auto reader = server.generation()->Generate(&context, TestServer::Request(0));
      v1::GenerateResponse message;
      while (reader->Read(&message)) {
      }
      EXPECT_TRUE(reader->Finish().ok());
      ++num_ended;
    });
  }
  const auto num_open = [&] {
    const scheduler::EngineLoad load = server.engine->Load();
    return load.waiting_requests + load.running_requests;
  };
  while (num_open() < 2) std::this_thread::yield();
  server.gate.AwaitHeld();
  // A connection of its own is not held up.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto control = v1::Control::NewStub(grpc::CreateCustomChannel(
      server.grpc->address(), grpc::InsecureChannelCredentials(), arguments));
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    v1::GetLoadResponse load;
    ASSERT_TRUE(control->GetLoad(&context, {}, &load).ok());
    EXPECT_EQ(load.waiting_requests() + load.running_requests(), 2);
  }
  EXPECT_EQ(num_ended, 0);
  server.gate.Open();
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(num_ended, 5);
}

TEST(GrpcServerTest, OnePortIsForOneServer) {
  TestServer server({.scripts = {"a~"}});
  EXPECT_TRUE(absl::StartsWith(server.grpc->address(), "127.0.0.1:"));
  EXPECT_FALSE(absl::EndsWith(server.grpc->address(), ":0"));
  const ServerFacts facts;
  metrics::ServerMetrics metrics({});
  ModelSlot slot;
  ActiveCalls active_calls(1);
  TextThread text_thread(1);
  ApiContext api{facts, base::Clock::System(), metrics.requests(), slot, active_calls, text_thread};
  for (const std::string& address :
       {server.grpc->address(), std::string("no such host:1"), std::string("")}) {
    const absl::Status status = GrpcServer::Start({.addresses = {address}}, {}, api).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << address;
    EXPECT_TRUE(absl::StartsWith(status.message(), absl::StrCat("--listen=", address))) << status;
  }
}

}  // namespace
}  // namespace sluice::api
