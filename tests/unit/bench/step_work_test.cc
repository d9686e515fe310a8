#include "bench/step_work.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::bench {
namespace {

// Two sparse layers around a dense one; the last layer has a window. All sizes differ.
model::ModelConfig Config() {
  model::ModelConfig config;
  config.hidden_size = 10;
  config.vocab_size = 100;
  config.attention.num_heads = 4;
  config.attention.num_kv_heads = 2;
  config.attention.head_dim = 3;  // Q = 12, KV = 6
  config.router.num_experts = 4;
  config.router.top_k = 2;
  config.expert_ffn_size = 5;
  config.dense_ffn_size = 7;
  config.shared_ffn_size = 2;
  config.layers = {{.sparse = true}, {.sparse = false}, {.sparse = true, .sliding_window = 3}};
  return config;
}

constexpr double kAttention = 10 * (12 + 2 * 6) + 12 * 10;
constexpr double kRouter = 10 * 4;
constexpr double kExpert = 3 * 10 * 5;
constexpr double kShared = 3 * 10 * 2;
constexpr double kDense = 3 * 10 * 7;
constexpr double kLmHead = 10 * 100;

constexpr StoredBytes kStored = {.attention = 1e0,
                                 .router = 1e1,
                                 .expert = 1e2,
                                 .shared = 1e3,
                                 .dense = 1e4,
                                 .lm_head = 1e5,
                                 .kv_position = 0.5};

TEST(StepWorkTest, WhatIsStoredIsDividedByLayersAndExperts) {
  const model::WeightsSize size = {.bytes = {{"attention", 3},
                                             {"experts", 2 * 4 * 100},
                                             {"shared", 2 * 1000},
                                             {"dense", 10000},
                                             {"router", 2 * 10},
                                             {"embedding", 12345},
                                             {"lm_head", 100000},
                                             {"norms", 12345}}};
  const StoredBytes stored = StoredBytesOf(Config(), size, 3 * model::kKvBlockTokens / 2);
  EXPECT_DOUBLE_EQ(stored.attention, kStored.attention);
  EXPECT_DOUBLE_EQ(stored.router, kStored.router);
  EXPECT_DOUBLE_EQ(stored.expert, kStored.expert);
  EXPECT_DOUBLE_EQ(stored.shared, kStored.shared);
  EXPECT_DOUBLE_EQ(stored.dense, kStored.dense);
  EXPECT_DOUBLE_EQ(stored.lm_head, kStored.lm_head);
  EXPECT_DOUBLE_EQ(stored.kv_position, kStored.kv_position);
}

// A model whose layers are all sparse has no dense ones to divide by.
TEST(StepWorkTest, AKindThatIsNotThereTakesNothing) {
  model::ModelConfig config = Config();
  config.layers.erase(config.layers.begin() + 1);
  const StoredBytes stored = StoredBytesOf(config, {.bytes = {{"dense", 0}}}, 0);
  EXPECT_EQ(stored.dense, 0);
  EXPECT_EQ(stored.expert, 0);
}

TEST(StepWorkTest, CountsEachMatrixOnceAndArithmeticPerToken) {
  const std::vector<TokenId> tokens = {1, 2, 3};
  const model::SamplingParams greedy;
  model::SequenceStep first;  // positions 4 and 5, more to come
  first.tokens = absl::MakeConstSpan(tokens).subspan(0, 2);
  first.first_position = 4;
  model::SequenceStep second;  // position 1, draws a token
  second.tokens = absl::MakeConstSpan(tokens).subspan(2, 1);
  second.first_position = 1;
  second.sampling = &greedy;
  // Three tokens go to two experts each: three experts of the first sparse layer have work, two of
  // the second.
  const std::vector<int32_t> routed = {3, 2, 0, 1, 3, 3, 0, 0};
  model::ExpertStepLoad load;
  load.num_tokens = 3;
  load.tokens = routed;

  const std::vector<model::SequenceStep> batch = {first, second};
  const StepWork work = WorkOf(Config(), kStored, batch, load);
  EXPECT_DOUBLE_EQ(work.weight_bytes, 3 * 1e0 + 2 * 1e1 + 5 * 1e2 + 2 * 1e3 + 1e4 + 1e5);
  // Each position once: 0 to 5 and 0 to 1 without a window; with it, tokens 4 and 5 see 2 to 5.
  EXPECT_DOUBLE_EQ(work.kv_bytes, 0.5 * (2 * (6 + 2) + (4 + 2)));
  // Visible: 5 + 6 + 2 without a window, 3 + 3 + 2 with it.
  EXPECT_DOUBLE_EQ(work.flops, 2 * (3 * (3 * kAttention + 2 * kShared + kDense + 2 * kRouter) +
                                    12 * kExpert + kLmHead) +
                                   4 * 12 * (2 * 13 + 8));
}

TEST(StepWorkTest, AStepThatDrawsNothingReadsNoOutputMatrix) {
  const std::vector<TokenId> tokens = {1};
  model::SequenceStep step;
  step.tokens = tokens;
  const std::vector<int32_t> routed = {1, 1, 0, 0, 1, 1, 0, 0};
  model::ExpertStepLoad load;
  load.tokens = routed;
  const StepWork without = WorkOf(Config(), kStored, {&step, 1}, load);
  const model::SamplingParams greedy;
  step.sampling = &greedy;
  const StepWork with = WorkOf(Config(), kStored, {&step, 1}, load);
  EXPECT_DOUBLE_EQ(with.weight_bytes - without.weight_bytes, 1e5);
  EXPECT_DOUBLE_EQ(with.flops - without.flops, 2 * kLmHead);
}

}  // namespace
}  // namespace sluice::bench
