// EngineOptions: what an engine is made with.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "base/clock.h"
#include "metrics/engine_metrics.h"
#include "model/model_runner.h"

namespace sluice::scheduler {

// Every limit has its default and what happens beyond it in docs/architecture.md.
struct EngineLimits {
  // Requests that wait for admission; beyond it Submit says RESOURCE_EXHAUSTED.
  int max_waiting_requests = 256;
  // Tokens of their prompts together; beyond it likewise, but a request that finds nobody waiting
  // is taken whatever its length.
  int64_t max_waiting_tokens = 262'144;
  // Sequences that run at once. What the runner can take in one step bounds it too, so that every
  // running sequence can have a token in every step.
  int max_running_requests = 64;
  // Tokens of a step; long prompts are cut into several steps. The runner's own limit bounds it
  // too.
  int max_step_tokens = 512;
  // How many times as long as without prompts a step that generates may take; above 1. Nullopt: no
  // matter. See StepPacer.
  std::optional<double> max_step_slowdown;
  // Prompt and answer together; at least 1.
  int64_t max_context = 0;
  // A waiting request rises by one priority in each such time; finite. See Rank.
  absl::Duration priority_ageing = absl::Seconds(10);
};

struct EngineOptions {
  EngineLimits limits;
  // These outlive the engine.
  const base::Clock* clock = &base::Clock::System();
  model::ModelRunner* runner = nullptr;
  metrics::EngineMetrics* metrics = nullptr;
};

}  // namespace sluice::scheduler
