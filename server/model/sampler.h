// Sampler: draws tokens from logits, and reports log-probabilities.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "base/token.h"
#include "kernels/vector_ops.h"
#include "model/logit_editor.h"
#include "model/model_runner.h"

namespace sluice::model {

// A uniformly distributed number in [0, 1) for each (seed, position): the counter-based generator
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
double UniformAt(uint64_t seed, int64_t position);

// Holds scratch memory for one vocabulary: one Sampler for each thread. Logits [V] may hold NaN,
// which no token with a number is ever worse than. Results depend on the arguments and on the kind
// of `ops` alone: rounding may differ from one instruction set to another.
class Sampler {
 public:
  // `ops` outlives the sampler.
  Sampler(const kernels::VectorOps& ops, int vocab_size);

  // The token that will stand at `position`, from logits as they are: bias and penalties are passed
  // over. The filters apply to the distribution that the ones before leave: temperature; the top_k
  // most probable (ties to the lower id); the fewest most probable that together reach top_p; those
  // with at least min_p of the best one's probability; the fewest that together reach typical_p,
  // those first whose log-probability is nearest to the mean one (ties to the lower id).
  TokenId Sample(absl::Span<const float> logits, const SamplingParams& params, int64_t position);

  // The same from logits that bias, penalties and `context` have changed (see LogitEditor). The
  // logits are changed in place, and have all their bits again afterwards.
  // REQUIRES: some token is not suppressed.
  TokenId Sample(absl::Span<float> logits, const SamplingParams& params, int64_t position,
                 const DrawContext& context);

  // The token's log-probability and the num_top most probable ones' (ties to the lower id; all of
  // them if num_top is larger than V) under the unmodified distribution.
  TokenLogprob Logprob(absl::Span<const float> logits, TokenId token, int num_top);

 private:
  // The best token's logit, and 1 / temperature: what a logit's probability is relative to.
  struct Scale {
    float best;
    float inverse_temperature;
  };

  // Sum of the logits' probabilities relative to the best token's, which go to `p` if it is not
  // null.
  double SumProbabilities(absl::Span<const float> logits, const Scale& scale, float* p) const;
  // The n best ids, best first, in ids_. Time grows with V + n log V log n.
  void SelectTop(absl::Span<const float> logits, size_t n);
  // Leaves in ids_, in any order, the fewest most probable tokens that reach top_p of what `top_k`
  // (0: all) leaves.
  void SelectNucleus(absl::Span<const float> logits, const Scale& scale, int top_k, float top_p);
  // Cuts ids_, best first, after the first that reaches `mass`; false if all of them do not.
  bool CutAt(absl::Span<const float> logits, const Scale& scale, double mass);
  // The same for all tokens, whose probabilities are in values_.
  void CutAllAt(absl::Span<const float> logits, double mass);
  // Leaves in ids_, ascending, the fewest that reach typical_p of what top_k, top_p and min_p left
  // there. `logits` are of the whole vocabulary.
  void CutToTypical(absl::Span<const float> logits, const Scale& scale, float min_p,
                    float typical_p);
  // Leaves in ids_, in their order, the fewest of the smallest distances_ whose values_ reach
  // `mass`, none of them without a value.
  void KeepNearest(double mass);
  // Where u in [0, 1) falls among these tokens, those below min_p left out; nullopt if none has a
  // probability.
  std::optional<size_t> Draw(absl::Span<const float> logits, const Scale& scale, float min_p,
                             double u);

  const kernels::VectorOps& ops_;
  LogitEditor editor_;
  std::vector<TokenId> ids_;         // at most [V]
  std::vector<TokenId> candidates_;  // at most [V]
  std::vector<float> values_;        // at most [V]
  std::vector<float> distances_;     // at most [V]
  std::vector<double> masses_;       // by block of tokens, or by bucket of probabilities
};

}  // namespace sluice::model
