#include "bench/engine_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"

namespace sluice::bench {
namespace {

using ::testing::HasSubstr;

class ManualClock : public base::Clock {
 public:
  absl::Time Now() const override { return now_; }
  void Advance(absl::Duration by) { now_ += by; }

 private:
  absl::Time now_ = absl::UnixEpoch();
};

constexpr int kVocab = 50;
constexpr int kBlocks = 100;
constexpr int kStepTokens = 32;
constexpr int kStepSequences = 8;

// Takes 1 ms per step and 10 ms per token, and checks what a runner may rely on.
class FakeRunner : public model::ModelRunner {
 public:
  explicit FakeRunner(ManualClock& clock) : clock_(clock) {}

  int num_kv_blocks() const override { return kBlocks; }
  int max_step_tokens() const override { return kStepTokens; }
  int max_step_sequences() const override { return kStepSequences; }

  absl::Span<const model::SequenceResult> Run(
      absl::Span<const model::SequenceStep> batch) override {
    EXPECT_LE(batch.size(), size_t{kStepSequences});
    std::set<model::BlockId> written;
    int64_t num_tokens = 0;
    for (const model::SequenceStep& step : batch) {
      EXPECT_FALSE(step.tokens.empty());
      for (size_t i = 0; i < step.tokens.size(); ++i) {
        EXPECT_GE(step.tokens[i], 0);
        EXPECT_LT(step.tokens[i], kVocab);
        const auto position = static_cast<size_t>(step.first_position) + i;
        CHECK(position / model::kKvBlockTokens < step.block_table.size());
        const model::BlockId block = step.block_table[position / model::kKvBlockTokens];
        EXPECT_GE(block, 0);
        EXPECT_LT(block, kBlocks);
        written.insert(block);
        owners_.emplace(block, step.block_table[0]);
        EXPECT_EQ(owners_[block], step.block_table[0]) << "two sequences share a block";
        computed_.insert({step.block_table[0], static_cast<int>(position)});
      }
      for (int i = 0; i < step.first_position; ++i) {
        EXPECT_TRUE(computed_.count({step.block_table[0], i})) << "position " << i << " is empty";
      }
      num_tokens += static_cast<int64_t>(step.tokens.size());
    }
    EXPECT_LE(num_tokens, kStepTokens);
    clock_.Advance(absl::Milliseconds(1 + 10 * num_tokens));
    ++steps_;
    return {};
  }

  model::ExpertStepLoad expert_load() const override { return {.tokens = routed_}; }

  int steps() const { return steps_; }

 private:
  ManualClock& clock_;
  int steps_ = 0;
  std::map<model::BlockId, model::BlockId> owners_;
  std::set<std::pair<model::BlockId, int>> computed_;  // (sequence, position)
  const std::vector<int32_t> routed_ = {1, 0};
};

model::ModelConfig Config() {
  model::ModelConfig config;
  config.hidden_size = 4;
  config.vocab_size = kVocab;
  config.attention = {.num_heads = 1, .num_kv_heads = 1, .head_dim = 4};
  config.router = {.num_experts = 2, .top_k = 1};
  config.expert_ffn_size = 8;
  config.layers = {{.sparse = true}};
  return config;
}

TEST(EngineBenchTest, MeasuresPrefillAndDecodeOfEachContext) {
  ManualClock clock;
  FakeRunner runner(clock);
  const model::ModelConfig config = Config();
  EngineBench bench({.runner = &runner, .config = &config, .clock = &clock});
  const Workload workload = {
      .prompt = 40, .generate = 5, .batches = {1, 3, 2}, .contexts = {70, 0, 17}};
  const std::vector<Measurement> results = bench.Run(workload);

  ASSERT_EQ(results.size(), 12u);
  size_t at = 0;
  for (const int context : {0, 17, 70}) {
    SCOPED_TRACE(context);
    const Measurement& prefill = results[at++];
    EXPECT_EQ(prefill.phase, "prefill");
    EXPECT_EQ(prefill.context, context);
    EXPECT_EQ(prefill.batch, 1);
    EXPECT_EQ(prefill.tokens, 40);
    // Two steps, of 32 and 8 tokens.
    EXPECT_NEAR(prefill.seconds, 2 * 0.001 + 40 * 0.010, 1e-9);
    for (const int batch : {1, 3, 2}) {
      const Measurement& decode = results[at++];
      EXPECT_EQ(decode.phase, "decode");
      EXPECT_EQ(decode.context, context);
      EXPECT_EQ(decode.batch, batch);
      EXPECT_EQ(decode.tokens, 5 * batch);
      EXPECT_NEAR(decode.seconds, 5 * (0.001 + batch * 0.010), 1e-9);
      // Attention, router and one expert of a layer, and the output matrix, in f32.
      EXPECT_DOUBLE_EQ(decode.work.weight_bytes,
                       5 * 4.0 * (4 * 4 * 4 + 4 * 2 + 3 * 4 * 8 + 4 * kVocab));
    }
  }
}

TEST(EngineBenchTest, WhatDoesNotFitTheContextIsAnErrorThatNamesTheFlags) {
  const Workload workload = {.prompt = 40, .generate = 50, .batches = {1}, .contexts = {0, 974}};
  EXPECT_TRUE(CheckFits(workload, 1024).ok());
  EXPECT_EQ(CheckFits(workload, 1023).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(CheckFits(workload, 1023).message()),
      testing::AllOf(HasSubstr("--context=974"), HasSubstr("--generate=50"), HasSubstr("1023")));
  EXPECT_THAT(std::string(CheckFits(workload, 39).message()), HasSubstr("--prompt=40"));
}

TEST(EngineBenchTest, CountsTheBlocksOfTheLongestSequences) {
  EXPECT_EQ(NumKvBlocks({.prompt = 16, .generate = 1, .batches = {1}, .contexts = {0}}), 1);
  EXPECT_EQ(NumKvBlocks({.prompt = 16, .generate = 17, .batches = {1, 3}, .contexts = {0}}), 6);
  EXPECT_EQ(NumKvBlocks({.prompt = 16, .generate = 1, .batches = {2, 1}, .contexts = {1, 0}}), 4);
}

}  // namespace
}  // namespace sluice::bench
