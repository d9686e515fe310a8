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
  const StepWork work = WorkOf(Config(), 2, batch, load);
  EXPECT_DOUBLE_EQ(
      work.weight_bytes,
      2 * (3 * kAttention + 2 * kShared + kDense + 5 * kExpert + kLmHead) + 4 * 2 * kRouter);
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
  const StepWork without = WorkOf(Config(), 4, {&step, 1}, load);
  const model::SamplingParams greedy;
  step.sampling = &greedy;
  const StepWork with = WorkOf(Config(), 4, {&step, 1}, load);
  EXPECT_DOUBLE_EQ(with.weight_bytes - without.weight_bytes, 4 * kLmHead);
  EXPECT_DOUBLE_EQ(with.flops - without.flops, 2 * kLmHead);
}

}  // namespace
}  // namespace sluice::bench
