#include "model/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace sluice::model {
namespace {

// NaN counts as the least of all.
float Comparable(float logit) {
  return std::isnan(logit) ? -std::numeric_limits<float>::infinity() : logit;
}

// Whether a is more probable than b, the lower id winning ties.
struct IsBetter {
  absl::Span<const float> logits;
  bool operator()(TokenId a, TokenId b) const {
    const float x = Comparable(logits[a]);
    const float y = Comparable(logits[b]);
    return x > y || (x == y && a < b);
  }
};

TokenId Best(absl::Span<const float> logits) {
  TokenId best = 0;
  for (size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best] || (std::isnan(logits[best]) && !std::isnan(logits[i])))
      best = static_cast<TokenId>(i);
  }
  return best;
}

// The probability relative to the best token's.
double Relative(float logit, float best, float temperature) {
  if (std::isnan(logit)) return 0;
  if (logit == best) return 1;
  return std::exp((double{logit} - best) / temperature);
}

}  // namespace

double UniformAt(uint64_t seed, int64_t position) {
  std::array<uint32_t, 4> counter = {static_cast<uint32_t>(position),
                                     static_cast<uint32_t>(static_cast<uint64_t>(position) >> 32),
                                     0, 0};
  std::array<uint32_t, 2> key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  const uint64_t bits = (uint64_t{counter[1]} << 32) | counter[0];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

Sampler::Sampler(int vocab_size) {
  ids_.reserve(vocab_size);
  probabilities_.reserve(vocab_size);
}

void Sampler::SelectTop(absl::Span<const float> logits, size_t n) {
  const IsBetter is_better{logits};
  n = std::min(n, logits.size());
  ids_.resize(n);
  std::iota(ids_.begin(), ids_.end(), 0);
  if (n == 0) return;
  // A heap whose front is the worst of the n best so far.
  std::make_heap(ids_.begin(), ids_.end(), is_better);
  for (size_t i = n; i < logits.size(); ++i) {
    if (!is_better(static_cast<TokenId>(i), ids_.front())) continue;
    std::pop_heap(ids_.begin(), ids_.end(), is_better);
    ids_.back() = static_cast<TokenId>(i);
    std::push_heap(ids_.begin(), ids_.end(), is_better);
  }
  std::sort_heap(ids_.begin(), ids_.end(), is_better);
}

void Sampler::SelectNucleus(absl::Span<const float> logits, float temperature, int top_k,
                            float top_p) {
  const float best = logits[Best(logits)];
  const size_t limit = top_k > 0 ? std::min<size_t>(top_k, logits.size()) : logits.size();
  double total = 0;
  if (limit < logits.size()) {
    SelectTop(logits, limit);
    for (const TokenId id : ids_) total += Relative(logits[id], best, temperature);
  } else {
    for (const float logit : logits) total += Relative(logit, best, temperature);
  }
  // Few tokens usually reach top_p: look for them among the best 64, then 512, ...
  for (size_t n = 64;; n *= 8) {
    if (limit == logits.size()) SelectTop(logits, n);
    double sum = 0;
    for (size_t i = 0; i < ids_.size(); ++i) {
      sum += Relative(logits[ids_[i]], best, temperature);
      if (sum >= top_p * total) {
        ids_.resize(i + 1);
        return;
      }
    }
    if (ids_.size() == limit) return;
  }
}

TokenId Sampler::Sample(absl::Span<const float> logits, const SamplingParams& params,
                        int64_t position) {
  const TokenId best_id = Best(logits);
  const float best = logits[best_id];
  // With an infinite or undefined best logit there is no distribution to draw from.
  if (params.temperature == 0 || !std::isfinite(best)) return best_id;

  const bool all = params.top_k == 0 || params.top_k >= static_cast<int>(logits.size());
  if (params.top_p < 1) {
    SelectNucleus(logits, params.temperature, params.top_k, params.top_p);
  } else if (!all) {
    SelectTop(logits, params.top_k);
  } else {
    ids_.resize(logits.size());
    std::iota(ids_.begin(), ids_.end(), 0);
  }
  // In the order of ids, so that what a filter leaves alone is drawn as if it were not there.
  if (params.top_p < 1 || !all) std::sort(ids_.begin(), ids_.end());

  probabilities_.resize(ids_.size());
  double total = 0;
  for (size_t i = 0; i < ids_.size(); ++i) {
    const double p = Relative(logits[ids_[i]], best, params.temperature);
    probabilities_[i] = p >= params.min_p ? p : 0;
    total += probabilities_[i];
  }
  const double target = UniformAt(params.seed, position) * total;
  double sum = 0;
  TokenId last =
      best_id;  // the last token with a probability, in case rounding keeps sum <= target
  for (size_t i = 0; i < ids_.size(); ++i) {
    if (probabilities_[i] == 0) continue;
    last = ids_[i];
    sum += probabilities_[i];
    if (sum > target) break;
  }
  return last;
}

TokenLogprob Sampler::Logprob(absl::Span<const float> logits, TokenId token, int num_top) {
  DCHECK(token >= 0 && static_cast<size_t>(token) < logits.size());
  const float best = logits[Best(logits)];
  double sum = 0;
  for (const float logit : logits) sum += Relative(logit, best, 1);
  const double log_sum = double{best} + std::log(sum);
  const auto logprob = [&](TokenId id) { return static_cast<float>(logits[id] - log_sum); };

  TokenLogprob result{.token = token, .logprob = logprob(token)};
  if (num_top <= 0) return result;
  SelectTop(logits, num_top);
  result.top.reserve(ids_.size());
  for (const TokenId id : ids_) result.top.emplace_back(id, logprob(id));
  return result;
}

}  // namespace sluice::model
