// Bias, penalties, suppressed tokens and typical_p against a plain implementation in f64.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include "kernels/kernel_set.h"
#include "model/sampler.h"

namespace sluice::model {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// What rounding to f32 may do to a sum of probabilities or to a logit here.
constexpr double kRounding = 1e-5;

const kernels::VectorOps& Ops() {
  static const kernels::KernelSet* const kernels =
      new kernels::KernelSet(kernels::SelectKernels(kernels::WeightFormat::kF32).value());
  return *kernels->vector;
}

// One token to draw.
struct Case {
  std::vector<float> logits;
  SamplingParams params;
  std::vector<TokenId> history;
  int64_t num_prompt_tokens = 0;
  std::vector<TokenId> suppressed;

  DrawContext context() const { return {history, num_prompt_tokens, suppressed}; }
};

std::vector<double> ReferenceLogits(const Case& c) {
  std::vector<double> logits(c.logits.begin(), c.logits.end());
  for (const auto& [token, bias] : c.params.logit_bias) logits[token] += bias;
  for (size_t token = 0; token < logits.size(); ++token) {
    const auto id = static_cast<TokenId>(token);
    const auto answer = c.history.begin() + c.num_prompt_tokens;
    const auto in_answer = static_cast<double>(std::count(answer, c.history.end(), id));
    const bool known = std::count(c.history.begin(), c.history.end(), id) > 0;
    const double penalty = c.params.repetition_penalty;
    if (known)
      logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
    if (in_answer > 0) logits[token] -= c.params.presence_penalty;
    logits[token] -= in_answer * c.params.frequency_penalty;
    if (std::count(c.suppressed.begin(), c.suppressed.end(), id) > 0) logits[token] = -kInfinity;
  }
  return logits;
}

// A distribution that knows when rounding might have made another of it.
class Reference {
 public:
  Reference(std::vector<double> logits, const SamplingParams& params)
      : logits_(std::move(logits)), p_(logits_.size()) {
    const double best = *std::max_element(logits_.begin(), logits_.end());
    for (size_t i = 0; i < p_.size(); ++i)
      p_[i] = std::exp((logits_[i] - best) / params.temperature);
    Normalize();
    const auto more_probable = [this](size_t a, size_t b) { return p_[a] > p_[b]; };
    if (params.top_k > 0) KeepFirst(Sorted(more_probable), params.top_k);
    if (params.top_p < 1) KeepMass(Sorted(more_probable), p_, params.top_p);
    const double best_p = *std::max_element(p_.begin(), p_.end());
    for (double& p : p_) {
      is_close_ |= params.min_p > 0 && std::abs(p / best_p - params.min_p) < kRounding;
      if (p < params.min_p * best_p) p = 0;
    }
    Normalize();
    if (params.typical_p < 1) KeepTypical(params.typical_p);
  }

  // Whether a filter or a tie might have gone the other way.
  bool is_close() const { return is_close_; }
  // Whether `token` is what u in [0, 1) falls on.
  bool Allows(TokenId token, double u) const {
    const double before = std::accumulate(p_.begin(), p_.begin() + token, 0.0);
    return p_[token] > 0 && u > before - kRounding && u < before + p_[token] + kRounding;
  }
  size_t num_possible() const {
    return std::count_if(p_.begin(), p_.end(), [](double p) { return p > 0; });
  }

 private:
  void Normalize() {
    const double sum = std::accumulate(p_.begin(), p_.end(), 0.0);
    for (double& p : p_) p /= sum;
  }

  template <typename Less>
  std::vector<size_t> Sorted(Less less) const {
    std::vector<size_t> order(p_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), less);
    return order;
  }

  void KeepFirst(const std::vector<size_t>& order, size_t n) {
    if (n < order.size()) {
      // Equal logits are equal in f32, too.
      const double a = logits_[order[n - 1]];
      const double b = logits_[order[n]];
      is_close_ |= a != b && std::abs(a - b) < kRounding;
    }
    for (size_t i = n; i < order.size(); ++i) p_[order[i]] = 0;
    Normalize();
  }

  void KeepMass(const std::vector<size_t>& order, const std::vector<double>& key, double mass) {
    double sum = 0;
    size_t n = 0;
    while (n < order.size() && sum < mass) {
      sum += p_[order[n++]];
      is_close_ |= std::abs(sum - mass) < kRounding;
    }
    if (n < order.size() && p_[order[n]] > 0) {
      const double a = key[order[n - 1]];
      const double b = key[order[n]];
      is_close_ |= logits_[order[n - 1]] != logits_[order[n]] && std::abs(a - b) < kRounding;
    }
    for (size_t i = n; i < order.size(); ++i) p_[order[i]] = 0;
    Normalize();
  }

  void KeepTypical(double mass) {
    double entropy = 0;
    for (const double p : p_) entropy -= p > 0 ? p * std::log(p) : 0;
    std::vector<double> distance(p_.size(), kInfinity);
    for (size_t i = 0; i < p_.size(); ++i) {
      if (p_[i] > 0) distance[i] = std::abs(-std::log(p_[i]) - entropy);
    }
    KeepMass(Sorted([&](size_t a, size_t b) { return distance[a] < distance[b]; }), distance, mass);
  }

  std::vector<double> logits_;
  std::vector<double> p_;
  bool is_close_ = false;
};

class RandomCases {
 public:
  explicit RandomCases(unsigned seed) : random_(seed) {}

  Case Next() {
    Case c;
    const int vocab_size = Pick<int>({2, 5, 40, 700, 3000});
    const auto any_token = [&] { return static_cast<TokenId>(random_() % vocab_size); };
    std::normal_distribution<float> normal(Pick<float>({-3, 0, 5}), Pick<float>({0.5f, 2, 6}));
    for (int i = 0; i < vocab_size; ++i) c.logits.push_back(normal(random_));
    // Some equal ones.
    for (int i = 1; i < vocab_size; i += 9) c.logits[i] = c.logits[0];
    for (size_t n = random_() % 60; n > 0; --n) c.history.push_back(any_token());
    c.num_prompt_tokens = static_cast<int64_t>(random_() % (c.history.size() + 1));
    std::map<TokenId, float> bias;
    for (int n = Pick<int>({0, 1, 30}); n > 0; --n) {
      bias[any_token()] = Pick<float>({-100, -2, 0.5f, 3});
    }
    c.params.logit_bias = {bias.begin(), bias.end()};
    for (int n = Pick<int>({0, 0, 1, 4}); n > 0; --n) {
      // 0 is not: some token has to be possible. Beyond the vocabulary means nothing.
      c.suppressed.push_back(1 + any_token());
    }
    c.params.repetition_penalty = Pick<float>({1, 1, 1.3f, 0.7f, 10});
    c.params.presence_penalty = Pick<float>({0, 0, 1.5f, -2});
    c.params.frequency_penalty = Pick<float>({0, 0, 0.4f, -1});
    c.params.temperature = Pick<float>({0.3f, 1, 2});
    c.params.top_k = Pick<int>({0, 0, 1, 7, 100});
    c.params.top_p = Pick<float>({1, 1, 0.9f, 0.3f});
    c.params.min_p = Pick<float>({0, 0, 0.05f, 0.4f});
    c.params.typical_p = Pick<float>({1, 0.95f, 0.5f, 0.1f});
    c.params.seed = random_();
    return c;
  }

 private:
  template <typename T>
  T Pick(std::vector<T> values) {
    return values[random_() % values.size()];
  }

  std::mt19937 random_;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(SamplerOptionsTest, RandomCasesAgreeWithThePlainImplementation) {
  constexpr int kCases = 4000;
  constexpr unsigned kSeed = 11;
  std::cout << "seed " << kSeed << "\n";
  RandomCases cases(kSeed);
  int num_close = 0;
  int num_greedy = 0;
  size_t num_possible = 0;
  for (int n = 0; n < kCases; ++n) {
    SCOPED_TRACE(n);
    const Case c = cases.Next();
    std::vector<float> logits = c.logits;
    Sampler sampler(Ops(), static_cast<int>(logits.size()));
    const std::vector<double> changed = ReferenceLogits(c);

    SamplingParams greedy = c.params;
    greedy.temperature = 0;
    const TokenId best = sampler.Sample(absl::MakeSpan(logits), greedy, n, c.context());
    const double worth = *std::max_element(changed.begin(), changed.end());
    EXPECT_GE(changed[best], worth - kRounding);
    num_greedy += changed[best] == worth;
    ASSERT_TRUE(SameBits(logits, c.logits));

    const Reference reference(changed, c.params);
    if (reference.is_close()) {
      ++num_close;
      continue;
    }
    num_possible += reference.num_possible();
    for (int position = 0; position < 5; ++position) {
      const TokenId token = sampler.Sample(absl::MakeSpan(logits), c.params, position, c.context());
      EXPECT_TRUE(reference.Allows(token, UniformAt(c.params.seed, position)))
          << token << " of " << reference.num_possible();
    }
    ASSERT_TRUE(SameBits(logits, c.logits));
  }
  EXPECT_LT(num_close, kCases / 5);
  EXPECT_GT(num_greedy, kCases * 9 / 10);
  EXPECT_GT(num_possible, size_t{kCases} * 5) << "most cases leave no choice";
}

TEST(SamplerOptionsTest, GreedyByHand) {
  const struct {
    const char* what;
    SamplingParams params;
    std::vector<TokenId> suppressed;
    TokenId want;
  } rows[] = {
      {"nothing", {}, {}, 3},
      {"bias up", {.logit_bias = {{0, 3.5f}}}, {}, 0},
      {"bias down", {.logit_bias = {{3, -3}}}, {}, 2},
      // Token 1 stands in the prompt, 2 in the answer once, 3 twice.
      {"repetition divides", {.repetition_penalty = 4.5f}, {}, 0},
      {"repetition rewards", {.repetition_penalty = 0.5f}, {}, 3},
      {"presence takes once", {.presence_penalty = 1.2f}, {}, 3},
      {"presence leaves the prompt alone", {.presence_penalty = 2}, {}, 1},
      {"frequency counts", {.frequency_penalty = 1.2f}, {}, 1},
      {"frequency leaves the prompt alone", {.frequency_penalty = 2}, {}, 1},
      {"frequency rewards", {.frequency_penalty = -2}, {}, 3},
      {"bias comes before repetition", {.logit_bias = {{2, 40}}, .repetition_penalty = 10}, {}, 2},
      {"suppressed", {}, {3, 2}, 1},
      {"suppressed in spite of bias", {.logit_bias = {{3, 100}}}, {3}, 2},
  };
  const std::vector<TokenId> history = {1, 1, 3, 2, 3};
  for (const auto& row : rows) {
    std::vector<float> logits = {1, 2, 3, 4};
    Sampler sampler(Ops(), 4);
    EXPECT_EQ(sampler.Sample(absl::MakeSpan(logits), row.params, 0, {history, 2, row.suppressed}),
              row.want)
        << row.what;
  }
  // A negative logit is multiplied.
  std::vector<float> logits = {-1, -1.5f};
  Sampler sampler(Ops(), 2);
  const std::vector<TokenId> zero = {0};
  EXPECT_EQ(sampler.Sample(absl::MakeSpan(logits), {.repetition_penalty = 2}, 0, {zero, 1, {}}), 1);
}

// 3/8 of the probability is on the best token, 1/160 on each of the others. Their surprise of 5.1
// is nearer to the mean of 3.5 than that of the best, 1.0; 80 of them make up half of the
// probability.
TEST(SamplerOptionsTest, TypicalMayLeaveOutTheBest) {
  std::vector<float> logits(101, std::log(0.5f / 100));
  logits[50] = std::log(0.3f);
  Sampler sampler(Ops(), 101);
  TokenId highest = 0;
  for (int position = 0; position < 2000; ++position) {
    const TokenId token = sampler.Sample(logits, {.temperature = 1, .typical_p = 0.5f}, position);
    EXPECT_NE(token, 50);
    highest = std::max(highest, token);
  }
  EXPECT_GE(highest, 79);
  EXPECT_LE(highest, 81);
}

TEST(SamplerOptionsTest, SuppressedTokensAreNeverDrawnWhateverTheLogits) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<std::vector<float>> cases = {{kNan, kNan, kNan},    {kInf, kInf, 1},
                                                 {0, kNan, -kInf},      {5, 5, -kInf},
                                                 {-kInf, -kInf, -kInf}, {1, 2, kNan}};
  const std::vector<TokenId> suppressed = {0, 1, 1, 7};
  for (std::vector<float> logits : cases) {
    const std::vector<float> before = logits;
    Sampler sampler(Ops(), 3);
    for (const float temperature : {0.0f, 1.0f}) {
      const SamplingParams params = {.temperature = temperature, .typical_p = 0.5f};
      EXPECT_EQ(sampler.Sample(absl::MakeSpan(logits), params, 0, {{}, 0, suppressed}), 2);
      EXPECT_TRUE(SameBits(logits, before));
    }
  }
}

}  // namespace
}  // namespace sluice::model
