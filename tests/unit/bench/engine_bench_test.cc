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

  void CopyBlock(model::BlockId, model::BlockId) override {}
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

constexpr StoredBytes kStored = {
    .attention = 100, .router = 10, .expert = 1000, .lm_head = 7, .kv_position = 0.25};

TEST(EngineBenchTest, MeasuresPrefillAndDecodeOfEachContext) {
  ManualClock clock;
  FakeRunner runner(clock);
  const model::ModelConfig config = Config();
  const Workload workload = {
      .prompt = 40, .generate = 5, .batches = {1, 3, 2}, .contexts = {70, 0, 17}};
  EngineBench bench({.runner = &runner, .config = &config, .stored = kStored, .clock = &clock},
                    workload);
  for (const char* round : {"first", "second"}) {
    SCOPED_TRACE(round);
    const std::vector<Measurement> results = bench.RunRound(workload.contexts);
    ASSERT_EQ(results.size(), 12u);
    size_t at = 0;
    for (const int context : {0, 17, 70}) {
      SCOPED_TRACE(context);
      const Measurement& prefill = results[at++];
      EXPECT_EQ(prefill.phase, "prefill");
      EXPECT_EQ(prefill.context, context);
      EXPECT_EQ(prefill.batch, 1);
      EXPECT_EQ(prefill.tokens, 40);
      // Of 32 and 8 tokens.
      EXPECT_EQ(prefill.steps, 2);
      EXPECT_NEAR(prefill.seconds, 2 * 0.001 + 40 * 0.010, 1e-9);
      for (const int batch : {1, 3, 2}) {
        const Measurement& decode = results[at++];
        EXPECT_EQ(decode.phase, "decode");
        EXPECT_EQ(decode.context, context);
        EXPECT_EQ(decode.batch, batch);
        EXPECT_EQ(decode.tokens, 5 * batch);
        EXPECT_EQ(decode.steps, 5);
        EXPECT_NEAR(decode.seconds, 5 * (0.001 + batch * 0.010), 1e-9);
        // One expert of two, as the runner says.
        EXPECT_DOUBLE_EQ(decode.work.weight_bytes, 5 * (100 + 10 + 1000 + 7));
        // Positions are context to context + 4, and each sees itself.
        const double visible = 5 * context + 1 + 2 + 3 + 4 + 5;
        EXPECT_DOUBLE_EQ(decode.work.kv_bytes, 0.25 * batch * visible);
        EXPECT_DOUBLE_EQ(decode.work.flops,
                         5 * 2.0 * (batch * (4 * 4 * 4 + 4 * 2 + 4 * kVocab) + 3 * 4 * 8) +
                             4.0 * 4 * batch * visible);
      }
    }
  }
}

TEST(EngineBenchTest, BatchesAtAContextMayDiffer) {
  ManualClock clock;
  FakeRunner runner(clock);
  const model::ModelConfig config = Config();
  const Workload workload = {
      .prompt = 16, .generate = 1, .batches = {1, 4}, .contexts = {0, 160}, .context_batches = {2}};
  EngineBench bench({.runner = &runner, .config = &config, .clock = &clock}, workload);
  std::vector<std::pair<int, int>> decoded;  // context, batch
  for (const Measurement& m : bench.RunRound({160, 0})) {
    if (m.phase == "decode") decoded.emplace_back(m.context, m.batch);
  }
  EXPECT_THAT(decoded, testing::ElementsAre(std::pair(0, 1), std::pair(0, 4), std::pair(160, 2)));
}

TEST(EngineBenchTest, ARoundAtAContextFillsTheCacheOnce) {
  ManualClock clock;
  FakeRunner runner(clock);
  const model::ModelConfig config = Config();
  const Workload workload = {.prompt = 16, .generate = 1, .batches = {1}, .contexts = {0, 160}};
  EngineBench bench({.runner = &runner, .config = &config, .clock = &clock}, workload);
  bench.RunRound({160});
  const int first_round = runner.steps();
  EXPECT_EQ(bench.RunRound({160}).size(), 2u);
  // 160 tokens are five steps.
  EXPECT_EQ(runner.steps() - first_round, first_round - 5);
}

TEST(EngineBenchTest, TheBandwidthIsMeasuredBeforeBetweenAndAfter) {
  ManualClock clock;
  FakeRunner runner(clock);
  const model::ModelConfig config = Config();
  double next = 0;
  EngineBench bench({.runner = &runner,
                     .config = &config,
                     .read_bandwidth = [&] { return next += 10; },
                     .clock = &clock},
                    {.prompt = 1, .generate = 1, .batches = {1, 2}, .contexts = {0}});
  const std::vector<Measurement> results = bench.RunRound({0});
  ASSERT_EQ(results.size(), 3u);
  EXPECT_DOUBLE_EQ(results[0].read_bandwidth, 15);
  EXPECT_DOUBLE_EQ(results[1].read_bandwidth, 25);
  EXPECT_DOUBLE_EQ(results[2].read_bandwidth, 35);
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

// Prompts are the first sequence's alone.
TEST(EngineBenchTest, CountsTheBlocksOfEachSequence) {
  EXPECT_EQ(NumKvBlocks({.prompt = 16, .generate = 1, .batches = {1}, .contexts = {0}}), 1);
  EXPECT_EQ(NumKvBlocks({.prompt = 16, .generate = 17, .batches = {1, 3}, .contexts = {0}}), 6);
  EXPECT_EQ(NumKvBlocks({.prompt = 33, .generate = 1, .batches = {2, 1}, .contexts = {1, 0}}), 4);
  EXPECT_EQ(NumKvBlocks({.prompt = 16,
                         .generate = 16,
                         .batches = {4},
                         .contexts = {0, 160},
                         .context_batches = {1}}),
            11 + 3);
}

}  // namespace
}  // namespace sluice::bench
