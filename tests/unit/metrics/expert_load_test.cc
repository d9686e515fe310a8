#include "metrics/expert_load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace sluice::metrics {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

// The arrays that an ExpertStep points into.
struct Step {
  int64_t num_tokens = 0;
  std::vector<int32_t> tokens;
  std::vector<float> weights;
  std::vector<float> probabilities;
  std::vector<double> seconds;

  ExpertStep view() const {
    return {.num_tokens = num_tokens,
            .tokens = tokens,
            .weights = weights,
            .probabilities = probabilities,
            .seconds = seconds};
  }
};

// A step of one layer in which each token goes to one expert, with probabilities as routed.
Step OneLayer(const std::vector<int32_t>& tokens) {
  Step step;
  step.num_tokens = std::accumulate(tokens.begin(), tokens.end(), int64_t{0});
  step.tokens = tokens;
  step.weights.assign(tokens.begin(), tokens.end());
  step.probabilities.assign(tokens.begin(), tokens.end());
  step.seconds = {0.5};
  return step;
}

// Random routes of random batches through L layers of E experts, top_k experts per token.
Step RandomStep(int num_layers, int num_experts, int top_k, std::mt19937_64& random) {
  Step step;
  const size_t size = static_cast<size_t>(num_layers) * num_experts;
  step.num_tokens = std::uniform_int_distribution<int64_t>(1, 40)(random);
  step.tokens.assign(size, 0);
  step.weights.assign(size, 0);
  step.probabilities.assign(size, 0);
  step.seconds.assign(num_layers, 0.25);
  std::vector<float> probability(num_experts);
  std::vector<int> order(num_experts);
  for (int layer = 0; layer < num_layers; ++layer) {
    for (int64_t token = 0; token < step.num_tokens; ++token) {
      float sum = 0;
      for (float& p : probability) {
        p = std::exp(std::uniform_real_distribution<float>(-3, 3)(random));
        sum += p;
      }
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(),
                [&](int a, int b) { return probability[a] > probability[b]; });
      const size_t row = static_cast<size_t>(layer) * num_experts;
      for (int i = 0; i < num_experts; ++i) step.probabilities[row + i] += probability[i] / sum;
      for (int i = 0; i < top_k; ++i) {
        ++step.tokens[row + order[i]];
        step.weights[row + order[i]] += probability[order[i]] / sum;
      }
    }
  }
  return step;
}

TEST(ExpertLoadTest, IsPerfectlyBalancedBeforeTheFirstStep) {
  ExpertLoad load({1, 3}, 4, 2);
  const ExpertLoad::Snapshot snapshot = load.Read();
  EXPECT_EQ(snapshot.steps, 0);
  ASSERT_EQ(snapshot.layers.size(), 2u);
  EXPECT_EQ(snapshot.layers[0].layer, 1);
  EXPECT_EQ(snapshot.layers[1].layer, 3);
  for (const LayerLoad& layer : snapshot.layers) {
    EXPECT_THAT(layer.tokens, ElementsAre(0, 0, 0, 0));
    EXPECT_THAT(layer.weight, ElementsAre(0, 0, 0, 0));
    EXPECT_EQ(layer.window_steps, 0);
    EXPECT_EQ(layer.imbalance, 1);
    EXPECT_EQ(layer.active_experts, 0);
    EXPECT_EQ(layer.routing_entropy, 1);
    EXPECT_EQ(layer.load_balance_loss, 1);
  }
}

TEST(ExpertLoadTest, FiguresOfKnownLoads) {
  const double log4 = std::log(4.0);
  struct Case {
    const char* name;
    std::vector<int32_t> tokens;
    double imbalance, active, entropy, loss;
  };
  const Case cases[] = {
      {"even", {5, 5, 5, 5}, 1, 4, 1, 1},
      {"all on one", {8, 0, 0, 0}, 4, 1, 0, 4},
      {"half on two", {4, 4, 0, 0}, 2, 2, std::log(2.0) / log4, 2},
      {"3:1", {3, 1, 0, 0}, 3, 2, (0.75 * std::log(4 / 3.0) + 0.25 * log4) / log4, 2.5},
      {"one expert", {7}, 1, 1, 1, 1},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    ExpertLoad load({0}, static_cast<int>(c.tokens.size()), 1);
    load.Publish(OneLayer(c.tokens).view());
    load.Publish(OneLayer(c.tokens).view());
    const LayerLoad layer = load.Read().layers[0];
    EXPECT_EQ(layer.window_steps, 2);
    EXPECT_DOUBLE_EQ(layer.imbalance, c.imbalance);
    EXPECT_DOUBLE_EQ(layer.active_experts, c.active);
    EXPECT_NEAR(layer.routing_entropy, c.entropy, 1e-15);
    EXPECT_DOUBLE_EQ(layer.load_balance_loss, c.loss);
    EXPECT_DOUBLE_EQ(layer.seconds, 1.0);
  }
}

TEST(ExpertLoadTest, CountsAreExactAndTheWindowForgetsOldSteps) {
  constexpr int kLayers = 3, kExperts = 70, kTopK = 4, kSteps = 3 * ExpertLoad::kWindowSteps + 17;
  const uint64_t seed = 20240607;
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  ExpertLoad load({0, 2, 5}, kExperts, kTopK);
  std::vector<Step> steps;
  for (int i = 0; i < kSteps; ++i) {
    steps.push_back(RandomStep(kLayers, kExperts, kTopK, random));
    load.Publish(steps.back().view());
    const size_t window = std::min<size_t>(steps.size(), ExpertLoad::kWindowSteps);
    // The figures are checked while the window fills, as it becomes full, and at the end.
    if (i != 0 && i != 30 && i != ExpertLoad::kWindowSteps && i + 1 != kSteps) continue;

    const ExpertLoad::Snapshot snapshot = load.Read();
    EXPECT_EQ(snapshot.steps, i + 1);
    for (int layer = 0; layer < kLayers; ++layer) {
      SCOPED_TRACE(testing::Message() << "step " << i << ", layer " << layer);
      const LayerLoad& got = snapshot.layers[layer];
      std::vector<int64_t> total(kExperts), in_window(kExperts);
      std::vector<double> weight(kExperts), probability(kExperts);
      double active = 0, num_tokens = 0;
      for (size_t s = 0; s < steps.size(); ++s) {
        const bool counts = s + window >= steps.size();
        if (counts) num_tokens += static_cast<double>(steps[s].num_tokens);
        for (int e = 0; e < kExperts; ++e) {
          const size_t at = static_cast<size_t>(layer) * kExperts + e;
          total[e] += steps[s].tokens[at];
          weight[e] += steps[s].weights[at];
          if (!counts) continue;
          in_window[e] += steps[s].tokens[at];
          probability[e] += steps[s].probabilities[at];
          active += steps[s].tokens[at] > 0 ? 1 : 0;
        }
      }
      EXPECT_EQ(got.tokens, total);
      EXPECT_EQ(got.weight, weight);
      EXPECT_EQ(got.window_steps, static_cast<int>(window));
      EXPECT_DOUBLE_EQ(got.active_experts, active / static_cast<double>(window));
      const double slots = num_tokens * kTopK;
      double entropy = 0, loss = 0;
      for (int e = 0; e < kExperts; ++e) {
        const double share = static_cast<double>(in_window[e]) / slots;
        if (share > 0) entropy -= share * std::log(share);
        loss += kExperts * share * probability[e] / num_tokens;
      }
      EXPECT_DOUBLE_EQ(
          got.imbalance,
          kExperts * static_cast<double>(*std::max_element(in_window.begin(), in_window.end())) /
              slots);
      EXPECT_NEAR(got.routing_entropy, entropy / std::log(kExperts), 1e-12);
      // Each of the window's sums is rounded down to a multiple of 2^-32.
      EXPECT_NEAR(got.load_balance_loss, loss, 1e-7);
    }
  }
}

TEST(ExpertLoadTest, ABrokenProbabilityLeavesTheWindowAgain) {
  ExpertLoad load({0}, 2, 1);
  Step broken = OneLayer({1, 1});
  broken.probabilities = {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()};
  load.Publish(broken.view());
  EXPECT_TRUE(std::isfinite(load.Read().layers[0].load_balance_loss));
  for (int i = 0; i < ExpertLoad::kWindowSteps; ++i) load.Publish(OneLayer({1, 1}).view());
  EXPECT_DOUBLE_EQ(load.Read().layers[0].load_balance_loss, 1);
}

TEST(ExpertLoadTest, CountsGoBeyond32Bits) {
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  ExpertLoad load({0}, 1, 1);
  for (int i = 0; i < 200; ++i) load.Publish(OneLayer({kMost}).view());
  EXPECT_EQ(load.Read().layers[0].tokens[0], int64_t{200} * kMost);
}

TEST(ExpertLoadTest, AModelWithoutSparseLayersCountsSteps) {
  ExpertLoad load({}, 0, 0);
  load.Publish({.num_tokens = 3});
  EXPECT_EQ(load.Read().steps, 1);
  EXPECT_TRUE(load.Read().layers.empty());
}

TEST(ExpertLoadTest, ReadersSeeWholeStepsOnly) {
  constexpr int kExperts = 64, kSteps = 2000;
  ExpertLoad load({0, 1}, kExperts, 1);
  std::atomic<bool> done{false};
  auto read = [&] {
    int64_t last = 0;
    do {
      const ExpertLoad::Snapshot snapshot = load.Read();
      EXPECT_GE(snapshot.steps, last);
      last = snapshot.steps;
      for (const LayerLoad& layer : snapshot.layers) {
        // Every step gives one token of weight 1 to each expert and takes half a second.
        EXPECT_THAT(layer.tokens, Each(snapshot.steps));
        EXPECT_THAT(layer.weight, Each(static_cast<double>(snapshot.steps)));
        EXPECT_EQ(layer.seconds, 0.5 * static_cast<double>(snapshot.steps));
        EXPECT_EQ(layer.imbalance, 1);
      }
    } while (!done && !testing::Test::HasFailure());
  };
  std::thread reader_a(read), reader_b(read);
  Step step = OneLayer(std::vector<int32_t>(2 * kExperts, 1));
  step.num_tokens = kExperts;
  step.seconds = {0.5, 0.5};
  for (int i = 0; i < kSteps; ++i) load.Publish(step.view());
  done = true;
  reader_a.join();
  reader_b.join();
  EXPECT_EQ(load.Read().steps, kSteps);
}

}  // namespace
}  // namespace sluice::metrics
