#include "model/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "kernels/kernel_set.h"

namespace sluice::model {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kDraws = 20000;

const kernels::VectorOps& Ops() {
  static const kernels::KernelSet* const kernels =
      new kernels::KernelSet(kernels::SelectKernels(kernels::WeightFormat::kF32).value());
  return *kernels->vector;
}

std::vector<float> LogitsOf(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities)
    logits.push_back(p > 0 ? static_cast<float>(std::log(p) + 3) : -kInfinity);
  return logits;
}

// Expected shares against kDraws draws: each count is binomial; five deviations hold for all of
// them but one time in a million.
void ExpectDistribution(const std::vector<float>& logits, SamplingParams params,
                        const std::vector<double>& expected) {
  Sampler sampler(Ops(), static_cast<int>(logits.size()));
  std::vector<int> counts(logits.size());
  for (int position = 0; position < kDraws; ++position)
    ++counts[sampler.Sample(logits, params, position)];
  for (size_t i = 0; i < expected.size(); ++i) {
    const double deviation = std::sqrt(kDraws * expected[i] * (1 - expected[i]));
    EXPECT_NEAR(counts[i], kDraws * expected[i], 5 * deviation) << "token " << i;
  }
}

TEST(PhiloxTest, IsUniformAndKeyed) {
  // Random123's known answers for philox4x32-10: counter and key zero give 6627e8d5 e169c58d ...
  const uint64_t bits = (uint64_t{0xe169c58d} << 32) | 0x6627e8d5;
  EXPECT_EQ(UniformAt(0, 0), static_cast<double>(bits >> 11) * 0x1p-53);

  std::set<double> seen;
  double sum = 0;
  for (int seed = 0; seed < 100; ++seed) {
    for (int position = 0; position < 100; ++position) {
      const double u = UniformAt(static_cast<uint64_t>(seed) << 33, position);
      EXPECT_TRUE(u >= 0 && u < 1);
      EXPECT_EQ(u, UniformAt(static_cast<uint64_t>(seed) << 33, position));
      sum += u;
      seen.insert(u);
    }
  }
  EXPECT_EQ(seen.size(), 10000);
  EXPECT_NEAR(sum / 10000, 0.5, 5 / std::sqrt(12.0 * 10000));
}

TEST(SamplerTest, GreedyTakesTheBestTiesToTheLowestId) {
  Sampler sampler(Ops(), 5);
  EXPECT_EQ(sampler.Sample({{1, 3, 2, 3, 0}}, {}, 0), 1);
  EXPECT_EQ(sampler.Sample({{-1, -3, -2, -1, -9}}, {}, 0), 0);
}

TEST(SamplerTest, DrawsFromTheDistribution) {
  const std::vector<double> p = {0.1, 0.4, 0.05, 0.25, 0.2};
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .seed = 1}, p);
}

TEST(SamplerTest, TemperatureSharpensAndFlattens) {
  const std::vector<double> p = {0.5, 0.3, 0.2};
  for (const float temperature : {0.5f, 2.0f}) {
    std::vector<double> expected;
    for (const double x : p) expected.push_back(std::pow(x, 1 / temperature));
    const double sum = std::accumulate(expected.begin(), expected.end(), 0.0);
    for (double& x : expected) x /= sum;
    ExpectDistribution(LogitsOf(p), {.temperature = temperature, .seed = 2}, expected);
  }
  // So cold that only the best is left, without overflow.
  ExpectDistribution(LogitsOf(p), {.temperature = 1e-30f}, {1, 0, 0});
}

TEST(SamplerTest, TopKKeepsTheBestTiesToTheLowerId) {
  const std::vector<double> p = {0.1, 0.2, 0.3, 0.2, 0.2};
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .top_k = 1}, {0, 0, 1, 0, 0});
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .top_k = 3},
                     {0, 0.2 / 0.7, 0.3 / 0.7, 0.2 / 0.7, 0});
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .top_k = 100}, p);
}

TEST(SamplerTest, TopPKeepsTheFewestThatReachIt) {
  const std::vector<double> p = {0.1, 0.45, 0.15, 0.3};
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .top_p = 0.4f}, {0, 1, 0, 0});
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .top_p = 0.7f}, {0, 0.6, 0, 0.4});
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .top_p = 0.8f},
                     {0, 0.45 / 0.9, 0.15 / 0.9, 0.3 / 0.9});
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .top_p = 1e-6f}, {0, 1, 0, 0});
}

// top_p counts in what top_k left: 0.45 of 0.75 is 0.6.
TEST(SamplerTest, FiltersApplyInOrder) {
  const std::vector<double> p = {0.1, 0.45, 0.15, 0.3};
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .top_k = 2, .top_p = 0.58f}, {0, 1, 0, 0});
  // min_p comes last and compares with the best: 0.3 is less than 0.7 * 0.45.
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .top_k = 3, .min_p = 0.7f}, {0, 1, 0, 0});
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .min_p = 0.5f}, {0, 0.6, 0, 0.4});
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .min_p = 1}, {0, 1, 0, 0});
}

TEST(SamplerTest, TopPOverManyTokensAgreesWithSortingThemAll) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> logits(5000);
  for (float& logit : logits) logit = normal(random);
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  double total = 0;
  for (const float logit : logits) total += std::exp(double{logit});
  for (const float top_p : {0.01f, 0.3f, 0.9f, 0.999f}) {
    std::set<int> nucleus;
    double sum = 0;
    for (size_t i = 0; sum < top_p * total; ++i) {
      nucleus.insert(order[i]);
      sum += std::exp(double{logits[order[i]]});
    }
    Sampler sampler(Ops(), 5000);
    for (int position = 0; position < 300; ++position) {
      const TokenId token =
          sampler.Sample(logits, {.temperature = 1, .top_p = top_p, .seed = 4}, position);
      EXPECT_TRUE(nucleus.count(token)) << top_p;
    }
  }
}

// More tokens than are summed in one go, with probabilities at the edges of what is.
TEST(SamplerTest, DrawsFromALargeVocabulary) {
  std::vector<double> p(3000, 0);
  p[0] = 0.1;
  p[1023] = 0.2;
  p[1024] = 0.3;
  p[2047] = 0.05;
  p[2500] = 0.15;
  p[2999] = 0.2;
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .seed = 5}, p);
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .top_k = 10, .top_p = 0.9999f, .seed = 6}, p);
  p[2047] = 0;
  for (double& x : p) x /= 0.95;
  ExpectDistribution(LogitsOf(p), {.temperature = 1, .min_p = 0.2f, .seed = 7}, p);
}

// Among equals the nucleus takes the lower ids: half of them make up half of the probability.
TEST(SamplerTest, TopPOverEqualTokensTakesTheLowerIds) {
  const std::vector<float> logits(4096, -2.5f);
  Sampler sampler(Ops(), 4096);
  TokenId lowest = 4096;
  TokenId highest = 0;
  for (int position = 0; position < 4000; ++position) {
    const TokenId token = sampler.Sample(logits, {.temperature = 1, .top_p = 0.5f}, position);
    lowest = std::min(lowest, token);
    highest = std::max(highest, token);
  }
  EXPECT_LT(lowest, 20);
  EXPECT_LT(highest, 2048);
  EXPECT_GE(highest, 2028);
}

TEST(SamplerTest, TheBestOfManyAgreeWithSortingThemAll) {
  std::mt19937 random(8);
  for (const int size : {1, 63, 64, 65, 127, 500, 4000}) {
    std::vector<float> logits(size);
    // Few different values, so that there are many ties.
    for (float& logit : logits) logit = static_cast<float>(random() % 50) - 60;
    for (int i = 3; i < size; i += 7) logits[i] = -kInfinity;
    std::vector<TokenId> order(size);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](TokenId a, TokenId b) { return logits[a] > logits[b]; });
    Sampler sampler(Ops(), size);
    for (const int n : {1, 2, 40, 63, 64, 100, 1000}) {
      std::vector<TokenId> ids;
      for (const auto& [id, logprob] : sampler.Logprob(logits, 0, n).top) ids.push_back(id);
      const std::vector<TokenId> want(order.begin(), order.begin() + std::min(n, size));
      EXPECT_EQ(ids, want) << n << " of " << size;
    }
  }
}

TEST(SamplerTest, SeedAndPositionAloneDecide) {
  std::vector<float> logits(1000, 0.0f);
  Sampler one(Ops(), 1000);
  Sampler other(Ops(), 1000);
  const SamplingParams params = {.temperature = 1, .seed = 99};
  std::vector<TokenId> tokens;
  for (int position = 0; position < 50; ++position)
    tokens.push_back(one.Sample(logits, params, position));
  for (int position = 49; position >= 0; --position)
    EXPECT_EQ(other.Sample(logits, params, position), tokens[position]);
  int same = 0;
  for (int position = 0; position < 50; ++position)
    same += one.Sample(logits, {.temperature = 1, .seed = 100}, position) == tokens[position];
  EXPECT_LT(same, 5);
}

TEST(SamplerTest, NanAndInfinityGiveAToken) {
  const std::vector<std::vector<float>> cases = {{kNan, kNan, kNan},
                                                 {kNan, 1, 2},
                                                 {1, kNan, 0},
                                                 {kInfinity, 1, kInfinity},
                                                 {-kInfinity, -kInfinity, -kInfinity},
                                                 {kInfinity, kNan, 0},
                                                 {1, -kInfinity, 1}};
  for (const std::vector<float>& logits : cases) {
    Sampler sampler(Ops(), 3);
    for (const SamplingParams& params :
         {SamplingParams{}, SamplingParams{.temperature = 1},
          SamplingParams{.temperature = 1, .top_k = 2, .top_p = 0.5f, .min_p = 0.1f}}) {
      const TokenId token = sampler.Sample(logits, params, 0);
      ASSERT_TRUE(token >= 0 && token < 3);
      const bool all_nan =
          std::all_of(logits.begin(), logits.end(), [](float x) { return std::isnan(x); });
      EXPECT_EQ(std::isnan(logits[token]), all_nan);
      EXPECT_EQ(sampler.Logprob(logits, token, 3).top.size(), 3);
    }
  }
}

TEST(SamplerTest, LogprobsAreOfTheUnmodifiedDistribution) {
  const std::vector<double> p = {0.1, 0.2, 0.3, 0.2, 0.2};
  Sampler sampler(Ops(), 5);
  const TokenLogprob result = sampler.Logprob(LogitsOf(p), 0, 4);
  EXPECT_EQ(result.token, 0);
  EXPECT_NEAR(result.logprob, std::log(0.1), 1e-6);
  const std::vector<TokenId> expected = {2, 1, 3, 4};
  ASSERT_EQ(result.top.size(), 4);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(result.top[i].first, expected[i]);
    EXPECT_NEAR(result.top[i].second, std::log(p[expected[i]]), 1e-6);
  }
  EXPECT_TRUE(sampler.Logprob(LogitsOf(p), 0, 0).top.empty());
  EXPECT_EQ(sampler.Logprob(LogitsOf(p), 0, 100).top.size(), 5);
}

}  // namespace
}  // namespace sluice::model
