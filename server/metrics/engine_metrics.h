// EngineMetrics: what the engine reports, as references to metric objects that were looked up once.
// Nothing that reports to them waits for a scrape: Counter and Gauge are one atomic number each,
// Histogram and ExpertLoad are read without a lock. All but expert_load is thread-safe.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include "metrics/expert_load.h"
#include "metrics/histogram.h"

namespace sluice::metrics {

struct EngineMetrics {
  prometheus::Gauge& requests_running;
  prometheus::Gauge& requests_waiting;
  prometheus::Counter& prompt_tokens_total;
  prometheus::Counter& prompt_tokens_cached_total;
  prometheus::Counter& prefix_cache_queries_total;
  prometheus::Counter& prefix_cache_hits_total;
  prometheus::Counter& generation_tokens_total;
  prometheus::Counter& preemptions_total;
  // What the engine refuses because it has too much to do, by reason.
  prometheus::Counter& rejections_queue_full;
  prometheus::Counter& rejections_queue_tokens;
  prometheus::Counter& rejections_deadline;
  Histogram& step_seconds;
  Histogram& step_tokens;
  Histogram& step_sequences;
  prometheus::Gauge& step_prompt_budget_tokens;
  Histogram& queue_time_seconds;
  Histogram& prefill_time_seconds;
  Histogram& decode_time_seconds;
  Histogram& time_to_first_token_seconds;
  Histogram& inter_token_latency_seconds;
  Histogram& request_time_per_output_token_seconds;
  prometheus::Gauge& kv_cache_usage_ratio;
  prometheus::Gauge& kv_blocks_used;
  prometheus::Gauge& kv_blocks_free;
  prometheus::Gauge& kv_blocks_cached;
  ExpertLoad& expert_load;
};

}  // namespace sluice::metrics
