#include "scheduler/engine_report.h"

#include <algorithm>

namespace sluice::scheduler {
namespace {

// The system's clock may be set back.
double SecondsBetween(absl::Time from, absl::Time to) {
  return std::max(absl::ToDoubleSeconds(to - from), 0.0);
}

}  // namespace

void EngineReport::AddStarted(const RequestGroup& group, int64_t num_queried, int64_t num_cached,
                              absl::Time now) {
  metrics_.queue_time_seconds.Observe(SecondsBetween(group.submitted_at(), now));
  metrics_.prompt_tokens_total.Increment(static_cast<double>(num_cached));
  metrics_.prompt_tokens_cached_total.Increment(static_cast<double>(num_cached));
  metrics_.prefix_cache_queries_total.Increment(static_cast<double>(num_queried));
  metrics_.prefix_cache_hits_total.Increment(static_cast<double>(num_cached));
  load_.prompt_tokens += num_cached;
  load_.cached_prompt_tokens += num_cached;
}

void EngineReport::AddPreemption() {
  metrics_.preemptions_total.Increment();
  ++load_.preemptions;
}

void EngineReport::AddToken(const Sequence& sequence, absl::Time previous, absl::Time now) {
  const RequestGroup& group = sequence.group();
  if (sequence.num_generated() > 1) {
    metrics_.inter_token_latency_seconds.Observe(SecondsBetween(previous, now));
  } else if (group.num_generated() == 1) {
    metrics_.prefill_time_seconds.Observe(SecondsBetween(group.started_at(), now));
    metrics_.time_to_first_token_seconds.Observe(SecondsBetween(group.submitted_at(), now));
  }
}

void EngineReport::SetPromptBudget(int num_tokens) {
  metrics_.step_prompt_budget_tokens.Set(num_tokens);
}

void EngineReport::AddStep(const Step& step, absl::Duration duration) {
  metrics_.step_seconds.Observe(std::max(absl::ToDoubleSeconds(duration), 0.0));
  metrics_.step_tokens.Observe(step.num_tokens);
  metrics_.step_sequences.Observe(step.num_sequences);
  metrics_.prompt_tokens_total.Increment(step.num_prompt_tokens);
  metrics_.generation_tokens_total.Increment(step.num_generated);
  ++load_.steps;
  load_.prompt_tokens += step.num_prompt_tokens;
  load_.generated_tokens += step.num_generated;
}

void EngineReport::AddExperts(const model::ExpertStepLoad& experts) {
  metrics_.expert_load.Publish({.num_tokens = experts.num_tokens,
                                .tokens = experts.tokens,
                                .weights = experts.weights,
                                .probabilities = experts.probabilities,
                                .seconds = experts.seconds});
}

void EngineReport::AddEnded(const RequestGroup& group) {
  absl::Time last_token = group.first_token_at();
  for (const auto& sequence : group.sequences()) {
    last_token = std::max(last_token, sequence->last_token_at());
    if (sequence->num_generated() <= 1) continue;
    metrics_.request_time_per_output_token_seconds.Observe(
        SecondsBetween(sequence->first_token_at(), sequence->last_token_at()) /
        static_cast<double>(sequence->num_generated() - 1));
  }
  if (group.num_generated() > 1) {
    metrics_.decode_time_seconds.Observe(SecondsBetween(group.first_token_at(), last_token));
  }
}

void EngineReport::SetLoad(const EngineLoad& load) {
  metrics_.requests_waiting.Set(load.waiting_requests);
  metrics_.requests_running.Set(load.running_requests);
  metrics_.kv_blocks_used.Set(load.used_kv_blocks());
  metrics_.kv_blocks_free.Set(load.free_kv_blocks);
  metrics_.kv_blocks_cached.Set(load.cached_kv_blocks);
  metrics_.kv_cache_usage_ratio.Set(static_cast<double>(load.used_kv_blocks()) /
                                    load.total_kv_blocks);
}

}  // namespace sluice::scheduler
