#include "model/route_counts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernel_set.h"

namespace sluice::model {
namespace {

const kernels::VectorOps& Ops() {
  static const kernels::KernelSet* const kernels =
      new kernels::KernelSet(kernels::SelectKernels(kernels::WeightFormat::kF32).value());
  return *kernels->vector;
}

// Multiples of 2^-12 below 1: sums of up to 4,096 of them are exact.
float Exact(std::mt19937& random) { return static_cast<float>(random() % 4096) / 4096; }

// A layer's routes of a step, and what has to come out.
struct Layer {
  Layer(int num_tokens, int num_experts, int top_k, std::mt19937& random)
      : num_tokens_by_expert(num_experts), weight(num_experts), probability(num_experts) {
    std::vector<int32_t> order(num_experts);
    std::iota(order.begin(), order.end(), 0);
    for (int token = 0; token < num_tokens; ++token) {
      std::shuffle(order.begin(), order.end(), random);
      for (int k = 0; k < top_k; ++k) {
        experts.push_back(order[k]);
        weights.push_back(Exact(random));
        ++num_tokens_by_expert[order[k]];
        weight[order[k]] += weights.back();
      }
      for (int expert = 0; expert < num_experts; ++expert) {
        probabilities.push_back(Exact(random));
        probability[expert] += probabilities.back();
      }
    }
  }

  std::vector<int32_t> experts;      // [T, K]
  std::vector<float> weights;        // [T, K]
  std::vector<float> probabilities;  // [T, E]

  std::vector<int32_t> num_tokens_by_expert;
  std::vector<float> weight;
  std::vector<float> probability;
};

template <typename T>
std::vector<T> Row(absl::Span<const T> values, int layer, int num_experts) {
  const auto row = values.subspan(static_cast<size_t>(layer) * num_experts, num_experts);
  return {row.begin(), row.end()};
}

TEST(RouteCountsTest, AreThoseOfTheLastStep) {
  constexpr int kLayers = 3;
  constexpr uint32_t kSeed = 11;
  RecordProperty("seed", std::to_string(kSeed));
  std::mt19937 random(kSeed);
  struct Shape {
    int num_experts, top_k;
  };
  for (const auto& [num_experts, top_k] :
       {Shape{1, 1}, Shape{8, 2}, Shape{60, 4}, Shape{128, 8}, Shape{256, 8}, Shape{7, 7}}) {
    RouteCounts counts(Ops(), kLayers, num_experts);
    // Each step has counts of its own, whatever there was before.
    for (const int num_tokens : {64, 1, 5, 512, 2}) {
      SCOPED_TRACE(testing::Message() << num_experts << " experts, top " << top_k << ", "
                                      << num_tokens << " tokens, seed " << kSeed);
      std::vector<Layer> layers;
      counts.Begin(num_tokens);
      for (int layer = 0; layer < kLayers; ++layer) {
        const Layer& made = layers.emplace_back(num_tokens, num_experts, top_k, random);
        counts.Count(layer, {.experts = made.experts, .weights = made.weights}, made.probabilities);
        counts.SetSeconds(layer, num_tokens + layer);
      }
      const ExpertStepLoad load = counts.load();
      EXPECT_EQ(load.num_tokens, num_tokens);
      ASSERT_EQ(load.seconds.size(), size_t{kLayers});
      for (int layer = 0; layer < kLayers; ++layer) {
        SCOPED_TRACE(testing::Message() << "layer " << layer);
        EXPECT_EQ(Row(load.tokens, layer, num_experts), layers[layer].num_tokens_by_expert);
        EXPECT_EQ(Row(load.weights, layer, num_experts), layers[layer].weight);
        EXPECT_EQ(Row(load.probabilities, layer, num_experts), layers[layer].probability);
        EXPECT_EQ(load.seconds[layer], num_tokens + layer);
      }
    }
  }
}

TEST(RouteCountsTest, AModelWithoutSparseLayersHasNone) {
  RouteCounts counts(Ops(), 0, 0);
  counts.Begin(3);
  const ExpertStepLoad load = counts.load();
  EXPECT_EQ(load.num_tokens, 3);
  EXPECT_TRUE(load.tokens.empty());
  EXPECT_TRUE(load.seconds.empty());
}

}  // namespace
}  // namespace sluice::model
