#include "model/rope.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace sluice::model {
namespace {

using Scaling = RopeConfig::Scaling;

constexpr double kTwoPi = 2 * std::numbers::pi;
constexpr double kRelative = 3e-6;

void ExpectFrequencies(const RopeConfig& config, const std::vector<double>& expected) {
  const std::vector<float> actual =
      RopeInverseFrequencies(config, static_cast<int>(2 * expected.size()));
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(actual[i], expected[i], kRelative * expected[i]) << "pair " << i;
}

std::vector<double> Plain(double theta, int half) {
  std::vector<double> frequencies;
  for (int i = 0; i < half; ++i) frequencies.push_back(std::pow(theta, -double(i) / half));
  return frequencies;
}

TEST(RopeTest, PlainAndLinear) {
  for (const int half : {1, 5, 12, 64}) {
    ExpectFrequencies({.theta = 1e6}, Plain(1e6, half));
    std::vector<double> linear = Plain(1e4, half);
    for (double& frequency : linear) frequency /= 3;
    ExpectFrequencies({.theta = 1e4, .scaling = Scaling::kLinear, .factor = 3}, linear);
  }
}

TEST(RopeTest, Llama3KeepsShortWavesSlowsLongOnesAndBlendsBetween) {
  const RopeConfig config = {.theta = 5e5,
                             .scaling = Scaling::kLlama3,
                             .factor = 8,
                             .original_max_positions = 8192,
                             .low_freq_factor = 1,
                             .high_freq_factor = 4};
  std::vector<double> expected = Plain(5e5, 64);
  int kept = 0, blended = 0, slowed = 0;
  for (double& frequency : expected) {
    const double turns = 8192 * frequency / kTwoPi;  // within the original context
    if (turns > 4) {
      ++kept;
    } else if (turns < 1) {
      frequency /= 8;
      ++slowed;
    } else {
      const double smooth = (turns - 1) / (4 - 1);
      frequency = (1 - smooth) * frequency / 8 + smooth * frequency;
      ++blended;
    }
  }
  EXPECT_TRUE(kept > 0 && blended > 0 && slowed > 0);
  ExpectFrequencies(config, expected);
}

TEST(RopeTest, Llama3WithEqualFactorsHasNoBlend) {
  const RopeConfig config = {.theta = 1e4,
                             .scaling = Scaling::kLlama3,
                             .factor = 4,
                             .original_max_positions = 64,
                             .low_freq_factor = 2,
                             .high_freq_factor = 2};
  std::vector<double> expected = Plain(1e4, 8);
  for (double& frequency : expected) {
    if (64 * frequency / kTwoPi < 2) frequency /= 4;
  }
  ExpectFrequencies(config, expected);
}

// By the paper's formula: gamma(r) ramps from 0 at beta_slow turns to 1 at beta_fast turns, here
// over the pair's index, with limits rounded outwards or not.
TEST(RopeTest, YarnRampsOverThePairs) {
  for (const bool truncate : {true, false}) {
    const RopeConfig config = {.theta = 1e6,
                               .scaling = Scaling::kYarn,
                               .factor = 4,
                               .original_max_positions = 4096,
                               .truncate = truncate};
    const int half = 32;
    std::vector<double> expected = Plain(1e6, half);
    // theta^(-i / half) * 4096 / 2 pi = turns, solved for i.
    double low = half * std::log(4096 / (kTwoPi * 32)) / std::log(1e6);
    double high = half * std::log(4096 / (kTwoPi * 1)) / std::log(1e6);
    if (truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    for (int i = 0; i < half; ++i) {
      const double slowed = std::clamp((i - low) / (high - low), 0.0, 1.0);
      expected[i] = expected[i] * (1 - slowed) + expected[i] / 4 * slowed;
    }
    ExpectFrequencies(config, expected);
  }
}

TEST(RopeTest, TableHoldsCosinesAndSinesTimesTheAttentionFactor) {
  const RopeConfig config = {.theta = 100,
                             .scaling = Scaling::kYarn,
                             .factor = 2,
                             .original_max_positions = 16,
                             .attention_factor = 1.25};
  auto table = RopeTable::Create(config, 6, 300);
  ASSERT_TRUE(table.ok()) << table.status();
  const std::vector<float> frequencies = RopeInverseFrequencies(config, 6);
  for (const int64_t end : {1, 5, 5, 3, 300}) table->Extend(end);
  for (int64_t position = 0; position < 300; ++position) {
    for (int i = 0; i < 3; ++i) {
      const double angle = static_cast<double>(position) * frequencies[i];
      EXPECT_NEAR(table->cos(position)[i], 1.25 * std::cos(angle), 5e-5);
      EXPECT_NEAR(table->sin(position)[i], 1.25 * std::sin(angle), 5e-5);
    }
  }
}

}  // namespace
}  // namespace sluice::model
