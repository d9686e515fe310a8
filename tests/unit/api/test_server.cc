#include "test_server.h"

#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/byte_buffer.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>
#include <utility>

#include "base/check.h"

namespace sluice::testing {
namespace {

constexpr int kVocabSize = 1000;
// Prompts are {number of the script, any token}, or the number as one digit of text.
constexpr int kPromptTokens = 2;

int ScriptOf(absl::Span<const TokenId> context) {
  return context[0] == FakeTokenizer::kBos ? context[1] - '0' : context[0];
}

FakeModelRunner::Options RunnerOptions(const std::vector<std::string>& scripts, StepGate& gate) {
  FakeModelRunner::Options options;
  options.num_kv_blocks = 4096;
  options.next_token = [&scripts](absl::Span<const TokenId> context) -> TokenId {
    const std::string& script = scripts[ScriptOf(context)];
    const size_t next = context.size() - kPromptTokens;
    // A tilde stands for the end token.
    const char byte = script[std::min(next, script.size() - 1)];
    return byte == '~' ? FakeTokenizer::kEos : static_cast<uint8_t>(byte);
  };
  options.on_run = [&gate](absl::Span<const model::SequenceStep>) { gate.Pass(); };
  return options;
}

}  // namespace

void StepGate::HoldAfter(int steps) {
  base::MutexLock lock(mutex_);
  steps_left_ = steps;
}

void StepGate::Open() {
  base::MutexLock lock(mutex_);
  steps_left_.reset();
  changed_.NotifyAll();
}

void StepGate::AwaitHeld() {
  base::MutexLock lock(mutex_);
  while (!held_) changed_.Wait(mutex_);
}

void StepGate::Pass() {
  base::MutexLock lock(mutex_);
  while (steps_left_ == 0) {
    held_ = true;
    changed_.NotifyAll();
    changed_.Wait(mutex_);
  }
  held_ = false;
  if (steps_left_) --*steps_left_;
}

TestServer::TestServer(Options options)
    : active_calls(options.max_active_requests),
      options_(std::move(options)),
      metrics_({"0.0.0", "compiler", "isa"}),
      expert_load_(metrics_.AddExpertLoad({0}, FakeModelRunner::kNumExperts, 1,
                                          metrics::ExpertMetrics::kPerExpert)),
      engine_metrics_(metrics_.Engine(expert_load_)),
      runner_(RunnerOptions(options_.scripts, gate)),
      facts_{"1.2.3",    absl::FromUnixSeconds(1'000'000'000), 2, "a processor", "avx512",
             {"gemm: x"}},
      text_thread_(16),
      api_{facts_,       base::Clock::System(), metrics_.requests(),    slot,
           active_calls, text_thread_,          options_.authenticator, options_.access_log} {
  auto started = api::GrpcServer::Start({.addresses = {"127.0.0.1:0"}}, options_.grpc, api_);
  CHECK(started.ok());
  grpc = *std::move(started);
  channel = grpc::CreateChannel(grpc->address(), grpc::InsecureChannelCredentials());
  scheduler::EngineOptions engine_options;
  engine_options.limits = options_.limits;
  engine_options.runner = &runner_;
  engine_options.metrics = &engine_metrics_;
  engine = std::make_unique<scheduler::Engine>(engine_options);
  engine->Start();
  if (options_.ready) MakeReady();
}

TestServer::~TestServer() {
  gate.Open();
  engine->Stop();
  grpc->Shutdown(absl::ZeroDuration());
}

void TestServer::MakeReady() {
  model_.facts.name = "fake";
  model_.facts.vocab_size = kVocabSize;
  model_.facts.max_context = options_.limits.max_context;
  model_.facts.default_max_tokens = 1000;
  model_.facts.defaults.eos_token_ids = {FakeTokenizer::kEos};
  model_.facts.tokenizer = options_.tokenizer == nullptr ? &tokenizer_ : options_.tokenizer;
  model_.facts.chat_unavailable_reason = "there is none";
  model_.info.set_name("fake");
  model_.engine = engine.get();
  model_.limits = options_.limits;
  model_.expert_load = &expert_load_;
  slot.Publish(&model_);
  grpc->SetReady(true);
}

void TestServer::AwaitIdle() {
  for (;;) {
    const scheduler::EngineLoad load = engine->Load();
    if (load.waiting_requests == 0 && load.running_requests == 0 && load.used_kv_blocks() == 0) {
      return;
    }
    std::this_thread::yield();
  }
}

void TestServer::AwaitWaiting() {
  while (engine->Load().waiting_requests == 0) std::this_thread::yield();
}

void TestServer::ExpectFreed(int64_t most_tokens) {
  EXPECT_EQ(active_calls.WaitUntilNone(absl::InfiniteDuration()), 0);
  gate.Open();
  AwaitIdle();
  EXPECT_LE(engine->Load().generated_tokens, most_tokens) << "the engine went on after the end";
}

double TestServer::Metric(const std::string& series) const {
  const std::string text = "\n" + metrics_.Text();
  const size_t at = text.find("\n" + series + " ");
  return at == std::string::npos ? -1 : std::strtod(&text[at + series.size() + 2], nullptr);
}

std::unique_ptr<v1::Generation::Stub> TestServer::generation() const {
  return v1::Generation::NewStub(channel);
}

std::unique_ptr<v1::Control::Stub> TestServer::control() const {
  return v1::Control::NewStub(channel);
}

grpc::Status TestServer::CallRaw(grpc::ClientContext& context, const std::string& method,
                                 const std::string& bytes, std::string* response) const {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  const grpc::Slice slice(bytes);
  const auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  grpc::Status status;
  grpc::ByteBuffer buffer;
  call->Finish(&buffer, &status, nullptr);
  void* tag;
  bool ok;
  EXPECT_TRUE(queue.Next(&tag, &ok));
  grpc::Slice answer;
  if (response != nullptr && status.ok() && buffer.DumpToSingleSlice(&answer).ok()) {
    response->assign(reinterpret_cast<const char*>(answer.begin()), answer.size());
  }
  return status;
}

v1::GenerateRequest TestServer::Request(int script) {
  v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids(script);
  request.mutable_token_ids()->add_ids(0);
  return request;
}

}  // namespace sluice::testing
