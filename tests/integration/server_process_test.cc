// The program itself: how it starts, refuses to start, drains and ends.
#include "server_process.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "sluice/v1/generation.grpc.pb.h"
#include "support/temp_folder.h"

namespace sluice {
namespace {

using testing::ServerProcess;
using testing::TempFolder;

class Stream {
 public:
  explicit Stream(const std::string& address) {
    stub_ =
        v1::Generation::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
    v1::GenerateRequest request;
    request.set_text("Once");
    request.mutable_stopping()->set_ignore_eos(true);
    request.mutable_stopping()->set_max_tokens(1000);
    // Makes the answer larger than what the network holds, so that it ends only if it is read.
    request.mutable_response()->set_logprobs(20);
    reader_ = stub_->Generate(&context_, request);
  }

  bool Next() {
    v1::GenerateResponse message;
    const bool is_there = reader_->Read(&message);
    if (message.has_finished()) generated_tokens_ = message.finished().usage().generated_tokens();
    return is_there;
  }
  grpc::Status ReadAll() {
    while (Next()) {
    }
    return reader_->Finish();
  }
  int generated_tokens() const { return generated_tokens_; }

 private:
  std::unique_ptr<v1::Generation::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
  int generated_tokens_ = 0;
};

TEST(ServerProcessTest, SaysEveryCapWhenItStarts) {
  ServerProcess server({});
  EXPECT_NE(server.AwaitLog("ready model=demo load_seconds="), "");
  server.Signal(SIGINT);
  EXPECT_EQ(server.AwaitExit(), 0);
  const std::string log = server.log();
  for (const char* text : {"isa=", "threads=", "matmul f32", "weights format=", "experts=",
                           "kv_cache format=", "max_context=1024", "max_running_requests=64",
                           "max_waiting_requests=256", "max_step_tokens=512 max_step_slowdown=2.2",
                           "max_message_bytes=4194304", "drain_timeout=30s", "stopped"}) {
    EXPECT_TRUE(absl::StrContains(log, text)) << text << "\n" << log;
  }
}

TEST(ServerProcessTest, ServesInEveryFormatThatEveryProcessorHas) {
  for (const char* format : {"f32", "int8", "int4"}) {
    ServerProcess server({absl::StrCat("--weights=", format)});
    EXPECT_NE(server.AwaitLog("ready"), "");
    Stream stream(server.grpc_address());
    EXPECT_TRUE(stream.ReadAll().ok());
    EXPECT_EQ(stream.generated_tokens(), 1000);
    server.Signal(SIGTERM);
    EXPECT_EQ(server.AwaitExit(), 0);
    const std::string log = server.log();
    EXPECT_TRUE(absl::StrContains(log, absl::StrCat("weights format=", format))) << log;
    EXPECT_TRUE(absl::StrContains(log, absl::StrCat("matmul ", format, ": "))) << log;
  }
}

TEST(ServerProcessTest, WhatCannotBeServedIsOneSentenceAndExitCode1) {
  const TempFolder empty_folder;
  const std::string& empty = empty_folder.path();
  const struct {
    std::vector<std::string> flags;
    std::string named;
  } rows[] = {
      {{"--model=/no/such/folder"}, "/no/such/folder: no such folder"},
      {{absl::StrCat("--model=", empty)}, empty},
      {{"--threads=many"}, "threads"},
      {{"--weights=int2"}, "must be auto, f32, bf16, int8 or int4"},
      {{"--no_such_flag"}, "no_such_flag"},
      {{"--listen=127.0.0.1:99999"}, "listen"},
  };
  for (const auto& row : rows) {
    ServerProcess server(row.flags);
    EXPECT_EQ(server.AwaitExit(), 1) << row.named;
    const std::string log = server.log();
    const size_t sentence = log.rfind("sluice-server: ");
    ASSERT_NE(sentence, std::string::npos) << log;
    EXPECT_TRUE(absl::StrContains(log.substr(sentence), row.named)) << log;
  }
}

TEST(ServerProcessTest, APortThatIsTakenIsExitCode1) {
  ServerProcess first({});
  ServerProcess second({absl::StrCat("--listen=", first.grpc_address())});
  EXPECT_EQ(second.AwaitExit(), 1);
  EXPECT_TRUE(absl::StrContains(second.log(), first.grpc_address())) << second.log();
}

TEST(ServerProcessTest, DrainsWhatRunsThenEnds) {
  ServerProcess server({});
  EXPECT_NE(server.AwaitLog("ready"), "");
  Stream stream(server.grpc_address());
  EXPECT_TRUE(stream.Next());
  server.Signal(SIGTERM);
  EXPECT_NE(server.AwaitLog("draining"), "");
  EXPECT_TRUE(stream.ReadAll().ok());
  EXPECT_EQ(stream.generated_tokens(), 1000);
  EXPECT_EQ(server.AwaitExit(), 0);
}

TEST(ServerProcessTest, AfterTheDrainTimeoutStreamsEndWithUnavailable) {
  ServerProcess server({"--drain_timeout=0"});
  EXPECT_NE(server.AwaitLog("ready"), "");
  Stream stream(server.grpc_address());
  EXPECT_TRUE(stream.Next());
  server.Signal(SIGTERM);
  EXPECT_NE(server.AwaitLog("ending 1 requests"), "");
  EXPECT_EQ(stream.ReadAll().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(server.AwaitExit(), 0);
}

}  // namespace
}  // namespace sluice
