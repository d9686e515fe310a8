// The engine: continuous batching. It owns all sequences and the KV cache's blocks, and runs step
// after step while there is work; requests join and leave between steps.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "metrics/engine_metrics.h"
#include "model/model_runner.h"
#include "scheduler/request.h"
#include "scheduler/token_stream.h"

namespace sluice::scheduler {

// Every limit has its default and what happens beyond it in docs/architecture.md.
struct EngineLimits {
  // Requests that wait for admission; beyond it Submit says RESOURCE_EXHAUSTED.
  int max_waiting_requests = 256;
  // Sequences that run at once.
  int max_running_requests = 64;
  // Tokens of a step; long prompts are cut into several steps.
  int max_step_tokens = 512;
  // Prompt and answer together.
  int64_t max_context = 0;
};

// How busy the engine is; a snapshot that is consistent in itself.
struct EngineLoad {
  int waiting_requests = 0;
  int running_requests = 0;
  int total_kv_blocks = 0;
  int free_kv_blocks = 0;
  int64_t steps = 0;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
};

// Submit, Cancel, Load and Stop may be called from any thread and never block. Everything else
// happens on the engine thread.
class Engine {
 public:
  struct Options {
    EngineLimits limits;
    const base::Clock* clock = &base::Clock::System();
    // Both must outlive the engine.
    model::ModelRunner* runner = nullptr;
    metrics::EngineMetrics* metrics = nullptr;
  };

  explicit Engine(const Options& options);
  // Stops, if that has not been done.
  ~Engine();

  // Starts the engine thread.
  void Start();

  // Hands `request` over; its events come out of `stream`. All or nothing, and at once:
  //   INVALID_ARGUMENT    it can never run (no prompt, or prompt + max_tokens beyond the context or
  //   the KV cache) ALREADY_EXISTS      its id waits or runs already RESOURCE_EXHAUSTED  the queue
  //   is full UNAVAILABLE         the engine is stopping
  absl::Status Submit(Request request, std::shared_ptr<TokenStream> stream);

  // Ends a request with CANCELLED; its blocks are free within one step. NOT_FOUND if it neither
  // waits nor runs.
  absl::Status Cancel(absl::string_view id);

  EngineLoad Load() const;

  // When a refused client should come back: the time in which the queue, at the measured rate,
  // gains a free place.
  absl::Duration RetryDelay() const;

  // Ends every request with UNAVAILABLE and waits for the engine thread to end.
  void Stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::scheduler
