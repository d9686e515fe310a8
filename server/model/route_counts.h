// RouteCounts: what every expert of every sparse layer has to do in one step.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/vector_ops.h"
#include "model/feed_forward.h"
#include "model/model_runner.h"

namespace sluice::model {

// L = sparse layers, E = experts, T = tokens of the step. Used by the thread that runs the step.
// Allocates nothing after construction.
class RouteCounts {
 public:
  RouteCounts(const kernels::VectorOps& ops, int num_layers, int num_experts);

  // A step of so many tokens, at least 1, begins. Count and SetSeconds follow, once for each layer.
  void Begin(int64_t num_tokens);
  // The routes of `layer` (of the sparse ones), and the router's probabilities [T, E].
  void Count(int layer, const Routes& routes, absl::Span<const float> probabilities);
  // The time that `layer` took.
  void SetSeconds(int layer, double seconds) { seconds_[layer] = seconds; }

  // What was counted, once every layer has had both calls; valid until the next Begin.
  ExpertStepLoad load() const;

 private:
  const kernels::VectorOps& ops_;
  const int64_t num_experts_;
  int64_t num_tokens_ = 0;
  std::vector<int32_t> tokens_;       // [L, E]
  std::vector<float> weights_;        // [L, E]
  std::vector<float> probabilities_;  // [L, E]
  std::vector<double> seconds_;       // [L]
};

}  // namespace sluice::model
