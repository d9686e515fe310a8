// EngineLoad: how busy the engine is, as numbers.
#pragma once

#include <cstdint>

namespace sluice::scheduler {

// A snapshot that is consistent in itself: a request counts as waiting or as running, never as both
// or neither, from the moment Submit accepts it until it ends.
struct EngineLoad {
  // Not admitted yet, or preempted with all its choices.
  int waiting_requests = 0;
  int64_t waiting_prompt_tokens = 0;  // theirs
  int running_requests = 0;
  // A block is free, cached (unused, but what it holds may be found again) or used by sequences.
  int total_kv_blocks = 0;
  int free_kv_blocks = 0;
  int cached_kv_blocks = 0;
  // Since the engine was made:
  int64_t steps = 0;
  // Computed or found in the cache, so a long prompt counts chunk by chunk; each once, however
  // often it has to be computed anew.
  int64_t prompt_tokens = 0;
  int64_t cached_prompt_tokens = 0;  // of these, found in the cache
  int64_t generated_tokens = 0;
  int64_t preemptions = 0;

  int used_kv_blocks() const { return total_kv_blocks - free_kv_blocks - cached_kv_blocks; }
};

}  // namespace sluice::scheduler
