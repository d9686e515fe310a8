// How much work a step of a model is: the bytes it reads and the arithmetic it does.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "model/config.h"
#include "model/model_runner.h"
#include "model/weights.h"

namespace sluice::bench {

// What a model's matrices and its KV cache take in memory: scales, padding and all.
struct StoredBytes {
  double attention = 0;  // of one layer
  double router = 0;     // of one sparse layer
  double expert = 0;     // of one expert
  double shared = 0;     // of one sparse layer
  double dense = 0;      // of one dense layer
  double lm_head = 0;
  double kv_position = 0;  // keys and values of one position in one layer
};

// Divides what a packed model takes in all (model::WeightsSize says it by kind) by the layers and
// experts. `kv_block_bytes` is a KV block of all layers.
StoredBytes StoredBytesOf(const model::ModelConfig& config, const model::WeightsSize& size,
                          int64_t kv_block_bytes);

struct StepWork {
  // Matrices that the step multiplies with, each counted once: an expert only if a token went
  // there, the output matrix only if a token was drawn. Norms and embedding rows are left out: they
  // are less than a thousandth.
  double weight_bytes = 0;
  // Positions of the cache that some token of the step sees, each counted once.
  double kv_bytes = 0;
  // Two per multiply-add, in those matrices and in attention over the visible positions.
  double flops = 0;

  double bytes() const { return weight_bytes + kv_bytes; }

  StepWork& operator+=(const StepWork& other) {
    weight_bytes += other.weight_bytes;
    kv_bytes += other.kv_bytes;
    flops += other.flops;
    return *this;
  }
};

// `load` says where the tokens of this very step went.
StepWork WorkOf(const model::ModelConfig& config, const StoredBytes& stored,
                absl::Span<const model::SequenceStep> batch, const model::ExpertStepLoad& load);

}  // namespace sluice::bench
