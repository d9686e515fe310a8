// What the engine's tests share: an engine on a fake model with a clock turned by hand, and a
// reader whose stream can be compared with a line of text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "metrics/server_metrics.h"
#include "scheduler/engine_core.h"
#include "scheduler/token_stream.h"
#include "support/fake_model_runner.h"
#include "support/manual_clock.h"

namespace sluice::scheduler {

// Events as a line of words: "started 17 23 length", "started CANCELLED"; those of choice 1 are
// "1:17" or "1:length". Log-probabilities are left out but for "prompt_logprobs:<n>".
std::string Describe(const std::vector<StreamEvent>& events);

// The tokens of one choice.
std::vector<TokenId> TokensOf(const std::vector<StreamEvent>& events, int choice = 0);

// A token's successor in tests whose answers are counted by hand: the length of the context. The
// answer to a prompt of n tokens is n, n + 1, n + 2, ...
TokenId CountTokens(absl::Span<const TokenId> context);

// Reads a stream when it is asked to; for one thread.
class Reader {
 public:
  Reader();

  const std::shared_ptr<TokenStream>& stream() const { return stream_; }
  // Calls of on_readable so far.
  int num_wakes() const { return *num_wakes_; }
  // Everything that has come so far.
  const std::vector<StreamEvent>& events();
  std::string words() { return Describe(events()); }

 private:
  std::shared_ptr<int> num_wakes_ = std::make_shared<int>(0);
  std::shared_ptr<TokenStream> stream_;
  std::vector<StreamEvent> events_;
};

// The metrics of an engine on a FakeModelRunner.
class TestMetrics {
 public:
  TestMetrics();
  metrics::EngineMetrics& engine() { return engine_; }

 private:
  metrics::ServerMetrics server_;
  metrics::EngineMetrics engine_;
};

struct TestSetup {
  EngineLimits limits = {.max_context = 1000};
  testing::FakeModelRunner::Options runner = {.next_token = CountTokens};
  // What a step takes on the clock.
  absl::Duration step_time = absl::ZeroDuration();
  // Those of an engine that has ended, as they take long to make; without, new ones.
  TestMetrics* metrics = nullptr;
};

struct TestEngine {
  explicit TestEngine(TestSetup setup = {});

  void Steps(int n) {
    for (int i = 0; i < n; ++i) core.Step();
  }
  // Submits a request that must be accepted.
  void Submit(Request request, Reader& reader);
  // Nothing waits, runs or holds a block.
  void ExpectIdle() const;

  testing::ManualClock clock;
  const std::unique_ptr<TestMetrics> own_metrics;
  TestMetrics& metrics;
  testing::FakeModelRunner runner;
  EngineCore core;
};

// One that counts the tokens it computes.
struct CountingEngine : TestEngine {
  explicit CountingEngine(EngineLimits limits = {.max_context = 1000}, int num_kv_blocks = 64);

  // Runs a request alone, to its end; returns the number of tokens computed for it.
  size_t RunAlone(Request request, Reader& reader);

  size_t computed = 0;
};

// A request of `prompt_tokens` times token 1.
Request MakeRequest(absl::string_view id, int prompt_tokens, int max_tokens);

}  // namespace sluice::scheduler
