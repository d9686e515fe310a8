// Sampler: draws tokens from logits, and reports log-probabilities.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/token.h"
#include "model/model_runner.h"

namespace sluice::model {

// A uniformly distributed number in [0, 1) for each (seed, position): the counter-based generator
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
double UniformAt(uint64_t seed, int64_t position);

// Holds scratch memory for one vocabulary: one Sampler for each thread. Logits [V] may hold NaN,
// which no token with a number is ever worse than.
class Sampler {
 public:
  explicit Sampler(int vocab_size);

  // The token that will stand at `position`. The filters apply to the distribution that the ones
  // before leave: temperature; the top_k most probable (ties to the lower id); the fewest most
  // probable that together reach top_p; those with at least min_p of the best one's probability.
  TokenId Sample(absl::Span<const float> logits, const SamplingParams& params, int64_t position);

  // The token's log-probability and the num_top most probable ones' (ties to the lower id; all of
  // them if num_top is larger than V) under the unmodified distribution.
  TokenLogprob Logprob(absl::Span<const float> logits, TokenId token, int num_top);

 private:
  // The n best ids, best first, in ids_. Time grows with V log n, not V log V.
  void SelectTop(absl::Span<const float> logits, size_t n);
  // Leaves in ids_ the fewest most probable tokens that reach top_p of what `top_k` (0: all)
  // leaves.
  void SelectNucleus(absl::Span<const float> logits, float temperature, int top_k, float top_p);

  std::vector<TokenId> ids_;
  std::vector<double> probabilities_;
};

}  // namespace sluice::model
