// Rotary position embedding (arXiv:2104.09864): the angles of every position, with the scalings
// that stretch a model's context.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mapped_memory.h"
#include "model/config.h"

namespace sluice::model {

// Radians per position of each pair, [head_dim / 2]. In the same f32 steps as the published
// implementations: their rounding is part of what a model was trained with.
std::vector<float> RopeInverseFrequencies(const RopeConfig& config, int head_dim);

// Cosines and sines, computed for a position when it is first needed.
class RopeTable {
 public:
  // Can hold positions below max_positions. RESOURCE_EXHAUSTED if there is no memory for them.
  static absl::StatusOr<RopeTable> Create(const RopeConfig& config, int head_dim,
                                          int64_t max_positions);

  // Makes positions below `end` ready. Not while other threads read.
  void Extend(int64_t end);

  // [head_dim / 2] each. REQUIRES: position is ready.
  const float* cos(int64_t position) const { return table_ + position * 2 * half_; }
  const float* sin(int64_t position) const { return cos(position) + half_; }
  int64_t half() const { return half_; }

 private:
  RopeTable(std::vector<float> inverse_frequencies, float factor, int64_t max_positions,
            base::MappedMemory memory);

  std::vector<float> inverse_frequencies_;
  float factor_;
  int64_t half_;
  int64_t max_positions_;
  int64_t ready_ = 0;
  base::MappedMemory memory_;
  float* table_;  // [max_positions] {cos [half], sin [half]}, in memory_
};

}  // namespace sluice::model
