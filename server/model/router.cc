#include "model/router.h"

#include "base/check.h"

namespace sluice::model {

void ChooseExperts(absl::Span<const float> probabilities, absl::Span<int32_t> ids) {
  DCHECK(!ids.empty() && ids.size() <= probabilities.size());
  size_t chosen = 0;
  for (size_t expert = 0; expert < probabilities.size(); ++expert) {
    const float p = probabilities[expert];
    if (chosen == ids.size()) {
      if (!(p > probabilities[ids[chosen - 1]])) continue;
      --chosen;
    }
    size_t rank = chosen++;
    for (; rank > 0 && p > probabilities[ids[rank - 1]]; --rank) ids[rank] = ids[rank - 1];
    ids[rank] = static_cast<int32_t>(expert);
  }
}

void WeighExperts(absl::Span<const float> probabilities, absl::Span<const int32_t> ids,
                  bool renormalize, absl::Span<float> weights) {
  DCHECK(ids.size() == weights.size());
  float sum = 0;
  for (size_t k = 0; k < ids.size(); ++k) sum += weights[k] = probabilities[ids[k]];
  if (!renormalize) return;
  for (float& weight : weights) weight /= sum;
}

}  // namespace sluice::model
