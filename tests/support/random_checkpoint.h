// RandomCheckpoint: a checkpoint with random weights that exists in memory only.
#pragma once

#include <cstddef>
#include <deque>
#include <random>
#include <vector>

#include "model/checkpoint.h"

namespace sluice::testing {

// Its weights are drawn so that activations keep a size near 1 through all layers, and tensors lie
// at odd addresses, as a file's may.
class RandomCheckpoint : public model::Checkpoint {
 public:
  RandomCheckpoint(const model::ModelConfig& config, model::DType dtype, unsigned seed);

  const model::ModelConfig& config() const override { return config_; }
  const model::GenerationDefaults& generation_defaults() const override { return defaults_; }
  const model::ModelTensors& tensors() const override { return tensors_; }
  void Release(const model::TensorView&) const override {}

 private:
  // Elements are mean + deviation * normal.
  model::TensorView Draw(int64_t rows, int64_t cols, double mean, double deviation);
  model::TensorView Matrix(int64_t rows, int64_t cols);
  model::TensorView Norm(int64_t size) { return Draw(1, size, 1, 0.2); }
  model::TensorView Bias(int64_t size) { return Draw(1, size, 0, 0.3); }
  model::FfnTensors Ffn(int64_t size);

  model::ModelConfig config_;
  model::DType dtype_;
  std::mt19937 random_;
  model::GenerationDefaults defaults_;
  model::ModelTensors tensors_;
  std::deque<std::vector<std::byte>> storage_;
};

// A small model with everything odd: no size is a multiple of 32, most not of 8.
model::ModelConfig SmallModelConfig();

}  // namespace sluice::testing
