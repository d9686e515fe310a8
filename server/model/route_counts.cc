#include "model/route_counts.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"

namespace sluice::model {

RouteCounts::RouteCounts(const kernels::VectorOps& ops, int num_layers, int num_experts)
    : ops_(ops),
      num_experts_(num_experts),
      tokens_(static_cast<size_t>(num_layers) * num_experts),
      weights_(tokens_.size()),
      probabilities_(tokens_.size()),
      seconds_(num_layers) {}

void RouteCounts::Count(int layer, const Routes& routes, absl::Span<const float> probabilities) {
  const auto num_rows = static_cast<int64_t>(probabilities.size()) / num_experts_;
  DCHECK(num_rows >= 1);
  int32_t* const tokens = tokens_.data() + layer * num_experts_;
  float* const weights = weights_.data() + layer * num_experts_;
  float* const sums = probabilities_.data() + layer * num_experts_;
  std::fill_n(tokens, num_experts_, 0);
  std::fill_n(weights, num_experts_, 0.0f);
  std::fill_n(sums, num_experts_, 0.0f);
  for (size_t i = 0; i < routes.experts.size(); ++i) {
    ++tokens[routes.experts[i]];
    weights[routes.experts[i]] += routes.weights[i];
  }
  for (int64_t row = 0; row < num_rows; ++row) {
    ops_.add_scaled(1, probabilities.data() + row * num_experts_, sums, num_experts_);
  }
}

ExpertStepLoad RouteCounts::load(int64_t num_tokens) const {
  return {.num_tokens = num_tokens,
          .tokens = tokens_,
          .weights = weights_,
          .probabilities = probabilities_,
          .seconds = seconds_};
}

}  // namespace sluice::model
