// LiveFigures: what the engine reports, as plain numbers for whoever shows it to people.
#pragma once

#include <cstdint>

#include "metrics/histogram.h"

namespace sluice::metrics {

// Each number is exact; together they are not of one moment, as they change while they are read.
struct LiveFigures {
  int64_t requests_running = 0;
  int64_t requests_waiting = 0;
  // Since the server started.
  int64_t prompt_tokens = 0;  // computed, or found in the cache
  int64_t prompt_tokens_cached = 0;
  int64_t generated_tokens = 0;
  double kv_cache_usage_ratio = 0;  // 0 to 1
  int64_t kv_blocks_used = 0;
  int64_t kv_blocks_free = 0;
  int64_t kv_blocks_cached = 0;
  HistogramCounts time_to_first_token_seconds;
  HistogramCounts inter_token_latency_seconds;
};

}  // namespace sluice::metrics
