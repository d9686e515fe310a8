// The router's decision: which experts each token goes to, and with which weights.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace sluice::model {

// Writes the ids.size() most probable experts, most probable first, ties to the lower id. The ids
// are distinct and valid even if probabilities are NaN.
// REQUIRES: 1 <= ids.size() <= probabilities.size().
void ChooseExperts(absl::Span<const float> probabilities, absl::Span<int32_t> ids);

// weights[k] = probabilities[ids[k]], divided by their sum if `renormalize`.
void WeighExperts(absl::Span<const float> probabilities, absl::Span<const int32_t> ids,
                  bool renormalize, absl::Span<float> weights);

}  // namespace sluice::model
