// EngineMetrics: what the engine reports, as references to metric objects that were looked up once.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include "metrics/expert_load.h"

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
  // What the engine refuses because it has too much to do, by reason; thread-safe.
  prometheus::Counter& rejections_queue_full;
  prometheus::Counter& rejections_queue_tokens;
  prometheus::Counter& rejections_deadline;
  prometheus::Histogram& step_seconds;
  prometheus::Histogram& step_tokens;
  prometheus::Histogram& step_sequences;
  prometheus::Gauge& step_prompt_budget_tokens;
  prometheus::Histogram& queue_time_seconds;
  prometheus::Histogram& prefill_time_seconds;
  prometheus::Histogram& decode_time_seconds;
  prometheus::Histogram& time_to_first_token_seconds;
  prometheus::Histogram& inter_token_latency_seconds;
  prometheus::Histogram& request_time_per_output_token_seconds;
  prometheus::Gauge& kv_cache_usage_ratio;
  prometheus::Gauge& kv_blocks_used;
  prometheus::Gauge& kv_blocks_free;
  prometheus::Gauge& kv_blocks_cached;
  ExpertLoad& expert_load;
};

}  // namespace sluice::metrics
