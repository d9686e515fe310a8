// EstimateMemory: what a model will take of the machine's memory, known before any of it is loaded.
#pragma once

#include <cstdint>

#include "model/checkpoint.h"
#include "model/cpu_model_runner.h"

namespace sluice::model {

// In bytes.
struct MemoryEstimate {
  int64_t weights = 0;   // matrices and embedding, packed: exact but for norms and biases
  int64_t kv_cache = 0;  // when all of it is in use
  int64_t scratch = 0;   // what a full step works in: about
};

// What CpuModelRunner::Create will need with these options.
MemoryEstimate EstimateMemory(const Checkpoint& checkpoint, const CpuModelRunner::Options& options);

}  // namespace sluice::model
