// EngineReport: what the engine counts and measures of itself, for its metrics and its EngineLoad.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "metrics/engine_metrics.h"
#include "model/model_runner.h"
#include "scheduler/block_manager.h"
#include "scheduler/engine_load.h"
#include "scheduler/request_group.h"
#include "scheduler/sequence.h"

namespace sluice::scheduler {

// For the engine thread alone.
class EngineReport {
 public:
  // Of one step.
  struct Step {
    int num_sequences = 0;
    int num_tokens = 0;
    int num_prompt_tokens = 0;  // of these; counted for the first time
    int num_generated = 0;
  };

  explicit EngineReport(metrics::EngineMetrics& metrics) : metrics_(metrics) {}

  // The counts since the engine was made; what it is doing now is the engine's to fill in.
  const EngineLoad& load() const { return load_; }

  // A request was started; so many of its prompt tokens were looked up and found.
  void AddStarted(const RequestGroup& group, int64_t num_queried, int64_t num_cached,
                  absl::Time now);
  void AddPreemption();
  // `sequence` drew a token, its previous one at `previous`.
  void AddToken(const Sequence& sequence, absl::Time previous, absl::Time now);
  // What the next step may have of prompts.
  void SetPromptBudget(int num_tokens);
  void AddStep(const Step& step, absl::Duration duration);
  void AddExperts(const model::ExpertStepLoad& experts);
  // Whatever ended it: what ends at a stop string is cancelled.
  void AddEnded(const RequestGroup& group);
  // `load` is what the world sees now.
  void SetLoad(const EngineLoad& load);

 private:
  metrics::EngineMetrics& metrics_;
  EngineLoad load_;
};

}  // namespace sluice::scheduler
