// How much work a step of a model is: the weights it reads and the arithmetic it does.
#pragma once

#include "absl/types/span.h"
#include "model/config.h"
#include "model/model_runner.h"

namespace sluice::bench {

struct StepWork {
  // Matrices that the step multiplies with, each counted once: an expert only if a token went
  // there, the output matrix only if a token was drawn. The router is held in f32. Norms, biases
  // and embedding rows are left out: they are less than a thousandth.
  double weight_bytes = 0;
  // Two per multiply-add, in those matrices and in attention over the visible positions.
  double flops = 0;

  StepWork& operator+=(const StepWork& other) {
    weight_bytes += other.weight_bytes;
    flops += other.flops;
    return *this;
  }
};

// `bytes_per_weight` is that of the format the weights are held in; `load` says where the tokens of
// this very step went.
StepWork WorkOf(const model::ModelConfig& config, double bytes_per_weight,
                absl::Span<const model::SequenceStep> batch, const model::ExpertStepLoad& load);

}  // namespace sluice::bench
