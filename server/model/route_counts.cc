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

void RouteCounts::Begin(int64_t num_tokens) {
  num_tokens_ = num_tokens;
  std::fill(tokens_.begin(), tokens_.end(), 0);
  std::fill(weights_.begin(), weights_.end(), 0.0f);
}

void RouteCounts::Count(int layer, const Routes& routes, absl::Span<const float> probabilities) {
  DCHECK(num_tokens_ >= 1);
  DCHECK(static_cast<int64_t>(probabilities.size()) == num_tokens_ * num_experts_);
  int32_t* const tokens = tokens_.data() + layer * num_experts_;
  float* const weights = weights_.data() + layer * num_experts_;
  for (size_t i = 0; i < routes.experts.size(); ++i) {
    ++tokens[routes.experts[i]];
    weights[routes.experts[i]] += routes.weights[i];
  }
  float* const sums = probabilities_.data() + layer * num_experts_;
  std::copy_n(probabilities.data(), num_experts_, sums);
  if (num_tokens_ > 1) {
    ops_.add_rows(probabilities.data() + num_experts_, num_tokens_ - 1, num_experts_, sums);
  }
}

ExpertStepLoad RouteCounts::load() const {
  return {.num_tokens = num_tokens_,
          .tokens = tokens_,
          .weights = weights_,
          .probabilities = probabilities_,
          .seconds = seconds_};
}

}  // namespace sluice::model
