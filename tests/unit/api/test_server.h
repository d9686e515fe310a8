// TestServer: the api on a loopback port, over the real engine and a model that says what a test
// scripted.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/grpc_server.h"
#include "base/mutex.h"
#include "fake_tokenizer.h"
#include "metrics/server_metrics.h"
#include "scheduler/engine.h"
#include "sluice/v1/control.grpc.pb.h"
#include "sluice/v1/generation.grpc.pb.h"
#include "support/fake_model_runner.h"

namespace sluice::testing {

// Lets the steps of the engine through, or holds them. Thread-safe.
class StepGate {
 public:
  // Holds the engine after that many further steps.
  void HoldAfter(int steps);
  void Open();
  // Waits until a step is held.
  void AwaitHeld();
  // Called by the engine thread at the beginning of each step.
  void Pass();

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  // Absent: all may pass.
  std::optional<int> steps_left_ ABSL_GUARDED_BY(mutex_);
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
};

class TestServer {
 public:
  struct Options {
    // What the model answers: to Request(i), or the text i as one digit, the bytes of scripts[i],
    // the last one again and again.
    std::vector<std::string> scripts;
    scheduler::EngineLimits limits{.max_context = 4096};
    api::GrpcLimits grpc;
    // Whether the model is loaded.
    bool ready = true;
    // Null: everybody may call, and nothing is logged. Outlive the server.
    api::Authenticator* authenticator = nullptr;
    api::AccessLog* access_log = nullptr;
    // Null: a FakeTokenizer. Outlives the server.
    const tokenizer::Tokenizer* tokenizer = nullptr;
    int max_active_requests = 1000;
  };

  explicit TestServer(Options options);
  ~TestServer();

  // Finishes loading the model.
  void MakeReady();
  // Waits until the engine has nothing to do and all blocks are free.
  void AwaitIdle();
  // Waits until a request waits for admission.
  void AwaitWaiting();
  // Waits until no call is active, and only then lets the engine go on, which has then nothing to
  // do, and has generated at most so many tokens in all.
  void ExpectFreed(int64_t most_tokens);
  // Value of a metric in the exposition text, such as `sluice_requests_total{...}`.
  double Metric(const std::string& series) const;

  std::unique_ptr<v1::Generation::Stub> generation() const;
  std::unique_ptr<v1::Control::Stub> control() const;
  // Calls `method` with `bytes` as its request, whatever they are; `response`, unless null, gets
  // those of the answer. REQUIRES: at most one answer comes.
  grpc::Status CallRaw(grpc::ClientContext& context, const std::string& method,
                       const std::string& bytes, std::string* response = nullptr) const;

  // A request with the prompt that script number `script` answers.
  static v1::GenerateRequest Request(int script);

  StepGate gate;
  std::unique_ptr<api::GrpcServer> grpc;
  std::shared_ptr<grpc::Channel> channel;
  api::ModelSlot slot;
  api::ActiveCalls active_calls;
  std::unique_ptr<scheduler::Engine> engine;

 private:
  const Options options_;
  metrics::ServerMetrics metrics_;
  metrics::ExpertLoad& expert_load_;
  metrics::EngineMetrics engine_metrics_;
  FakeModelRunner runner_;
  FakeTokenizer tokenizer_;
  api::ServerFacts facts_;
  api::ServedModel model_;
  api::TextThread text_thread_;
  api::ApiContext api_;
};

}  // namespace sluice::testing
