#include "model/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
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

// Tokens whose probabilities are summed in one go.
constexpr size_t kBlock = 1024;
// Tokens that are looked at together for one that is better than the worst of the best.
constexpr size_t kScan = 128;
// Most distributions reach top_p with fewer tokens.
constexpr size_t kFewTokens = 64;

// Numbers from 0 in ascending order: by exponent and the first six bits of the mantissa, which lie
// together in a float.
constexpr int kBucketShift = 17;
constexpr size_t BucketOf(float x) { return std::bit_cast<uint32_t>(x) >> kBucketShift; }
// Of probabilities, which are at most 1; and of distances between log-probabilities of which none
// is below the smallest float's, -104.
constexpr size_t kNumBuckets = BucketOf(1.0f) + 1;
constexpr float kMaxDistance = 128;
constexpr size_t kNumDistanceBuckets = BucketOf(kMaxDistance) + 1;

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

Sampler::Sampler(const kernels::VectorOps& ops, int vocab_size) : ops_(ops), editor_(vocab_size) {
  ids_.reserve(vocab_size);
  candidates_.reserve(vocab_size);
  values_.reserve(vocab_size);
  distances_.reserve(vocab_size);
  masses_.reserve(std::max(kNumDistanceBuckets, vocab_size / kBlock + 1));
}

double Sampler::SumProbabilities(absl::Span<const float> logits, const Scale& scale,
                                 float* p) const {
  float scratch[kBlock];
  double total = 0;
  for (size_t i = 0; i < logits.size(); i += kBlock) {
    const size_t n = std::min(kBlock, logits.size() - i);
    total += ops_.exp_sum(logits.data() + i, scale.best, scale.inverse_temperature, 0,
                          p != nullptr ? p + i : scratch, static_cast<int64_t>(n));
  }
  return total;
}

void Sampler::SelectTop(absl::Span<const float> logits, size_t n) {
  const IsBetter is_better{logits};
  n = std::min(n, logits.size());
  ids_.resize(n);
  std::iota(ids_.begin(), ids_.end(), 0);
  if (n == 0) return;
  // A heap whose front is the worst of the n best so far. A later token with the same logit has a
  // higher id, and is not better.
  std::make_heap(ids_.begin(), ids_.end(), is_better);
  float worst = Comparable(logits[ids_.front()]);
  for (size_t begin = n; begin < logits.size(); begin += kScan) {
    const size_t end = std::min(begin + kScan, logits.size());
    if (!(ops_.max(logits.data() + begin, static_cast<int64_t>(end - begin)) > worst)) continue;
    for (size_t i = begin; i < end; ++i) {
      if (!(logits[i] > worst)) continue;
      std::pop_heap(ids_.begin(), ids_.end(), is_better);
      ids_.back() = static_cast<TokenId>(i);
      std::push_heap(ids_.begin(), ids_.end(), is_better);
      worst = Comparable(logits[ids_.front()]);
    }
  }
  std::sort_heap(ids_.begin(), ids_.end(), is_better);
}

bool Sampler::CutAt(absl::Span<const float> logits, const Scale& scale, double mass) {
  values_.resize(ids_.size());
  for (size_t i = 0; i < ids_.size(); ++i) values_[i] = logits[ids_[i]];
  SumProbabilities(values_, scale, values_.data());
  double sum = 0;
  for (size_t i = 0; i < ids_.size(); ++i) {
    sum += values_[i];
    if (sum >= mass) {
      ids_.resize(i + 1);
      return true;
    }
  }
  return false;
}

void Sampler::CutAllAt(absl::Span<const float> logits, double mass) {
  masses_.assign(kNumBuckets, 0);
  for (const float p : values_) masses_[BucketOf(p)] += p;
  size_t bucket = kNumBuckets - 1;
  double sum = 0;
  for (; bucket > 0 && sum + masses_[bucket] < mass; --bucket) sum += masses_[bucket];
  // Of this bucket's tokens the worst that is still needed, if any is.
  const float low = std::bit_cast<float>(static_cast<uint32_t>(bucket << kBucketShift));
  const float high = std::bit_cast<float>(static_cast<uint32_t>((bucket + 1) << kBucketShift));
  candidates_.clear();
  for (size_t i = 0; i < values_.size(); ++i) {
    if (values_[i] >= low && values_[i] < high && values_[i] > 0)
      candidates_.push_back(static_cast<TokenId>(i));
  }
  const IsBetter is_better{logits};
  std::sort(candidates_.begin(), candidates_.end(), is_better);
  std::optional<TokenId> worst;
  for (size_t i = 0; i < candidates_.size() && sum < mass; ++i) {
    worst = candidates_[i];
    sum += values_[*worst];
  }
  ids_.clear();
  for (size_t i = 0; i < values_.size(); ++i) {
    if (values_[i] < low) continue;
    const auto id = static_cast<TokenId>(i);
    if (values_[i] >= high || (worst.has_value() && !is_better(*worst, id))) ids_.push_back(id);
  }
}

void Sampler::SelectNucleus(absl::Span<const float> logits, const Scale& scale, int top_k,
                            float top_p) {
  if (top_k > 0 && static_cast<size_t>(top_k) < logits.size()) {
    SelectTop(logits, top_k);
    values_.resize(ids_.size());
    for (size_t i = 0; i < ids_.size(); ++i) values_[i] = logits[ids_[i]];
    CutAt(logits, scale, top_p * SumProbabilities(values_, scale, nullptr));
    return;
  }
  const double mass = top_p * SumProbabilities(logits, scale, nullptr);
  SelectTop(logits, kFewTokens);
  if (CutAt(logits, scale, mass)) return;
  values_.resize(logits.size());
  SumProbabilities(logits, scale, values_.data());
  CutAllAt(logits, mass);
}

void Sampler::CutToTypical(absl::Span<const float> logits, const Scale& scale, float min_p,
                           float typical_p) {
  values_.resize(ids_.size());
  for (size_t i = 0; i < ids_.size(); ++i) values_[i] = logits[ids_[i]];
  double total = 0;
  for (size_t i = 0; i < values_.size(); i += kBlock) {
    total += ops_.exp_sum(values_.data() + i, scale.best, scale.inverse_temperature, min_p,
                          values_.data() + i,
                          static_cast<int64_t>(std::min(kBlock, values_.size() - i)));
  }
  // A token's surprise less the distribution's entropy: in both the logarithm of `total` falls out.
  const auto relative = [&](size_t i) {
    return (double{logits[ids_[i]]} - scale.best) * scale.inverse_temperature;
  };
  double mean = 0;
  for (size_t i = 0; i < ids_.size(); ++i) {
    if (values_[i] > 0) mean += values_[i] / total * relative(i);
  }
  distances_.resize(ids_.size());
  for (size_t i = 0; i < ids_.size(); ++i) {
    if (values_[i] == 0) continue;
    distances_[i] = std::min(static_cast<float>(std::abs(relative(i) - mean)), kMaxDistance);
  }
  KeepNearest(typical_p * total);
}

void Sampler::KeepNearest(double mass) {
  masses_.assign(kNumDistanceBuckets, 0);
  for (size_t i = 0; i < ids_.size(); ++i) {
    if (values_[i] > 0) masses_[BucketOf(distances_[i])] += values_[i];
  }
  size_t bucket = 0;
  double sum = 0;
  for (; bucket + 1 < kNumDistanceBuckets && sum + masses_[bucket] < mass; ++bucket) {
    sum += masses_[bucket];
  }
  // Of this bucket's tokens as many as are still needed; here candidates are places in ids_.
  candidates_.clear();
  for (size_t i = 0; i < ids_.size(); ++i) {
    if (values_[i] > 0 && BucketOf(distances_[i]) == bucket) {
      candidates_.push_back(static_cast<TokenId>(i));
    }
  }
  const auto is_nearer = [&](TokenId a, TokenId b) {
    return distances_[a] < distances_[b] || (distances_[a] == distances_[b] && a < b);
  };
  std::sort(candidates_.begin(), candidates_.end(), is_nearer);
  std::optional<TokenId> last;
  for (size_t i = 0; i < candidates_.size() && sum < mass; ++i) {
    last = candidates_[i];
    sum += values_[*last];
  }
  size_t kept = 0;
  for (size_t i = 0; i < ids_.size(); ++i) {
    if (values_[i] == 0) continue;
    const size_t own = BucketOf(distances_[i]);
    const bool keep =
        own < bucket || (own == bucket && last && !is_nearer(*last, static_cast<TokenId>(i)));
    if (keep) ids_[kept++] = ids_[i];
  }
  ids_.resize(kept);
}

std::optional<size_t> Sampler::Draw(absl::Span<const float> logits, const Scale& scale, float min_p,
                                    double u) {
  float p[kBlock];
  const auto sum_block = [&](size_t block) {
    const size_t begin = block * kBlock;
    return ops_.exp_sum(logits.data() + begin, scale.best, scale.inverse_temperature, min_p, p,
                        static_cast<int64_t>(std::min(kBlock, logits.size() - begin)));
  };
  const size_t num_blocks = (logits.size() + kBlock - 1) / kBlock;
  masses_.resize(num_blocks);
  double total = 0;
  for (size_t block = 0; block < num_blocks; ++block) total += masses_[block] = sum_block(block);
  if (!(total > 0)) return std::nullopt;
  const double target = u * total;
  double sum = 0;
  size_t block = 0;
  // Rounding may keep the sum of all below the target: then it is the last with a probability.
  size_t last_block = num_blocks - 1;
  while (masses_[last_block] == 0) --last_block;
  for (; block < last_block && sum + masses_[block] <= target; ++block) sum += masses_[block];
  sum_block(block);
  size_t last = 0;
  for (size_t i = 0; i < std::min(kBlock, logits.size() - block * kBlock); ++i) {
    if (p[i] == 0) continue;
    last = i;
    sum += p[i];
    if (sum > target) break;
  }
  return block * kBlock + last;
}

TokenId Sampler::Sample(absl::Span<const float> logits, const SamplingParams& params,
                        int64_t position) {
  const auto best_id =
      static_cast<TokenId>(ops_.argmax(logits.data(), static_cast<int64_t>(logits.size())));
  // With an infinite or undefined best logit there is no distribution to draw from.
  if (params.temperature == 0 || !std::isfinite(logits[best_id])) return best_id;
  const Scale scale = {logits[best_id],
                       std::min(1 / params.temperature, std::numeric_limits<float>::max())};
  const double u = UniformAt(params.seed, position);

  const bool all = params.top_k == 0 || params.top_k >= static_cast<int>(logits.size());
  if (all && params.top_p >= 1 && params.typical_p >= 1) {
    const std::optional<size_t> drawn = Draw(logits, scale, params.min_p, u);
    return drawn.has_value() ? static_cast<TokenId>(*drawn) : best_id;
  }
  if (params.top_p < 1) {
    SelectNucleus(logits, scale, params.top_k, params.top_p);
  } else if (!all) {
    SelectTop(logits, params.top_k);
  } else {
    ids_.resize(logits.size());
    std::iota(ids_.begin(), ids_.end(), 0);
  }
  // In the order of ids, so that what a filter leaves alone is drawn as if it were not there.
  if (!std::is_sorted(ids_.begin(), ids_.end())) std::sort(ids_.begin(), ids_.end());
  if (params.typical_p < 1) CutToTypical(logits, scale, params.min_p, params.typical_p);
  values_.resize(ids_.size());
  for (size_t i = 0; i < ids_.size(); ++i) values_[i] = logits[ids_[i]];
  const std::optional<size_t> drawn = Draw(values_, scale, params.min_p, u);
  return ids_[drawn.value_or(0)];
}

TokenId Sampler::Sample(absl::Span<float> logits, const SamplingParams& params, int64_t position,
                        const DrawContext& context) {
  editor_.Apply(logits, params, context);
  TokenId token = Sample(absl::Span<const float>(logits), params, position);
  editor_.Undo(logits);
  // Where no other token is possible, the best one may be one of them.
  const auto is_suppressed = [&context](TokenId id) {
    return std::find(context.suppressed.begin(), context.suppressed.end(), id) !=
           context.suppressed.end();
  };
  if (is_suppressed(token)) {
    for (token = 0; is_suppressed(token);) ++token;
  }
  return token;
}

TokenLogprob Sampler::Logprob(absl::Span<const float> logits, TokenId token, int num_top) {
  DCHECK(token >= 0 && static_cast<size_t>(token) < logits.size());
  const float best = ops_.max(logits.data(), static_cast<int64_t>(logits.size()));
  const double log_sum =
      double{best} +
      std::log(SumProbabilities(logits, {.best = best, .inverse_temperature = 1}, nullptr));
  const auto logprob = [&](TokenId id) { return static_cast<float>(logits[id] - log_sum); };

  TokenLogprob result{.token = token, .logprob = logprob(token)};
  if (num_top <= 0) return result;
  SelectTop(logits, num_top);
  result.top.reserve(ids_.size());
  for (const TokenId id : ids_) result.top.emplace_back(id, logprob(id));
  return result;
}

}  // namespace sluice::model
