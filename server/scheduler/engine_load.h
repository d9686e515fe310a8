// EngineLoad: how busy the engine is, as numbers.
#pragma once

#include <cstdint>

namespace sluice::scheduler {

// A snapshot that is consistent in itself: a request counts as waiting or as running, never as both
// or neither, from the moment Submit accepts it until it ends.
struct EngineLoad {
  int waiting_requests = 0;
  int running_requests = 0;
  int total_kv_blocks = 0;
  int free_kv_blocks = 0;
  // Since the engine was made:
  int64_t steps = 0;
  int64_t prompt_tokens = 0;  // computed, so a long prompt counts chunk by chunk
  int64_t generated_tokens = 0;
};

}  // namespace sluice::scheduler
