// EngineOptions: what an engine is made with.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "metrics/engine_metrics.h"
#include "model/model_runner.h"

namespace sluice::scheduler {

// Every limit has its default and what happens beyond it in docs/architecture.md.
struct EngineLimits {
  // Requests that wait for admission; beyond it Submit says RESOURCE_EXHAUSTED.
  int max_waiting_requests = 256;
  // Sequences that run at once. What the runner can take in one step bounds it too, so that every
  // running sequence can have a token in every step.
  int max_running_requests = 64;
  // Tokens of a step; long prompts are cut into several steps. The runner's own limit bounds it
  // too.
  int max_step_tokens = 512;
  // Prompt and answer together; at least 1.
  int64_t max_context = 0;
};

struct EngineOptions {
  EngineLimits limits;
  // These outlive the engine.
  const base::Clock* clock = &base::Clock::System();
  model::ModelRunner* runner = nullptr;
  metrics::EngineMetrics* metrics = nullptr;
};

}  // namespace sluice::scheduler
