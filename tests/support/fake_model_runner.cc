#include "support/fake_model_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace sluice::testing {
namespace {

constexpr double kLayerSeconds[] = {0.001};

// Blocks that hold the positions up to the step's last.
int64_t NumBlocks(const model::SequenceStep& step) {
  const int64_t positions = step.first_position + static_cast<int64_t>(step.tokens.size());
  return (positions + model::kKvBlockTokens - 1) / model::kKvBlockTokens;
}

}  // namespace

TokenId FakeNextToken(absl::Span<const TokenId> context) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a, over tokens instead of bytes
  for (const TokenId token : context) hash = (hash ^ static_cast<uint64_t>(token)) * 1099511628211u;
  return static_cast<TokenId>((hash >> 20) % 1000);
}

TokenId FakeRandomToken(TokenId token, uint64_t seed, int64_t position) {
  const uint64_t hash = (seed ^ static_cast<uint64_t>(position)) * 0x9e3779b97f4a7c15;
  return static_cast<TokenId>((static_cast<uint64_t>(token) + (hash >> 40)) % 1000);
}

model::TokenLogprob FakeLogprob(TokenId previous, TokenId token, int num_top) {
  model::TokenLogprob logprob{.token = token,
                              .logprob = -static_cast<float>((previous * 31 + token) % 97 + 1) / 8};
  for (int i = 0; i < num_top; ++i) {
    logprob.top.emplace_back(token + i, logprob.logprob - static_cast<float>(i));
  }
  return logprob;
}

FakeModelRunner::FakeModelRunner(Options options)
    : options_(std::move(options)),
      cache_(static_cast<size_t>(options_.num_kv_blocks) * model::kKvBlockTokens, -1),
      expert_tokens_(kNumExperts),
      expert_weights_(kNumExperts) {}

absl::Span<const model::SequenceResult> FakeModelRunner::Run(
    absl::Span<const model::SequenceStep> batch) {
  if (options_.on_run) options_.on_run(batch);
  CheckBatch(batch);
  results_.clear();
  num_tokens_ = 0;
  expert_tokens_.assign(kNumExperts, 0);
  for (const model::SequenceStep& step : batch) {
    WriteCache(step);
    model::SequenceResult& result = results_.emplace_back();
    for (size_t i = 0; i < step.targets.size(); ++i) {
      result.prompt_logprobs.push_back(
          FakeLogprob(step.tokens[i], step.targets[i], step.prompt_logprobs));
    }
    if (step.sampling == nullptr) continue;
    result.token = Draw(step);
    if (step.logprobs.has_value()) {
      result.logprob = FakeLogprob(step.tokens.back(), *result.token, *step.logprobs);
    }
  }
  expert_weights_.assign(expert_tokens_.begin(), expert_tokens_.end());
  if (options_.clock != nullptr) options_.clock->Advance(options_.step_time);
  return results_;
}

model::ExpertStepLoad FakeModelRunner::expert_load() const {
  return {.num_tokens = num_tokens_,
          .tokens = expert_tokens_,
          .weights = expert_weights_,
          .probabilities = expert_weights_,
          .seconds = kLayerSeconds};
}

TokenId FakeModelRunner::Draw(const model::SequenceStep& step) const {
  const std::vector<TokenId> context = ReadCache(step);
  EXPECT_TRUE(step.history == absl::MakeConstSpan(context))
      << "the cache does not hold the sequence's tokens";
  EXPECT_LE(step.num_prompt_tokens, static_cast<int64_t>(step.history.size()));
  TokenId token = options_.next_token(context);
  if (step.sampling->temperature > 0) {
    token = FakeRandomToken(token, step.sampling->seed, static_cast<int64_t>(context.size()));
  }
  const auto is_suppressed = [&] {
    return std::find(step.suppressed.begin(), step.suppressed.end(), token) !=
           step.suppressed.end();
  };
  while (is_suppressed()) token = (token + 1) % 1000;
  return token;
}

void FakeModelRunner::CheckBatch(absl::Span<const model::SequenceStep> batch) const {
  EXPECT_GE(batch.size(), 1u);
  EXPECT_LE(batch.size(), static_cast<size_t>(max_step_sequences()));
  size_t num_tokens = 0;
  std::vector<int> num_holders(num_kv_blocks(), 0);
  for (const model::SequenceStep& step : batch) {
    EXPECT_FALSE(step.tokens.empty());
    EXPECT_LE(step.targets.size(), step.tokens.size());
    num_tokens += step.tokens.size();
    ASSERT_GE(step.block_table.size(), static_cast<size_t>(NumBlocks(step)));
    for (const model::BlockId block : step.block_table) {
      ASSERT_GE(block, 0);
      ASSERT_LT(block, num_kv_blocks());
      ++num_holders[block];
    }
  }
  for (const model::SequenceStep& step : batch) {
    for (int64_t i = step.first_position / model::kKvBlockTokens; i < NumBlocks(step); ++i) {
      const model::BlockId block = step.block_table[i];
      EXPECT_EQ(num_holders[block], 1) << "block " << block << " is shared and written";
    }
  }
  EXPECT_LE(num_tokens, static_cast<size_t>(max_step_tokens()));
}

void FakeModelRunner::WriteCache(const model::SequenceStep& step) {
  for (size_t i = 0; i < step.tokens.size(); ++i) {
    CacheAt(step, step.first_position + static_cast<int64_t>(i)) = step.tokens[i];
    ++num_tokens_;
    ++expert_tokens_[step.tokens[i] % kNumExperts];
  }
}

std::vector<TokenId> FakeModelRunner::ReadCache(const model::SequenceStep& step) const {
  std::vector<TokenId> context(step.first_position + step.tokens.size());
  for (size_t i = 0; i < context.size(); ++i) {
    const int64_t block = step.block_table[i / model::kKvBlockTokens];
    context[i] = cache_[block * model::kKvBlockTokens + i % model::kKvBlockTokens];
  }
  return context;
}

void FakeModelRunner::CopyBlock(model::BlockId from, model::BlockId to) {
  ASSERT_NE(from, to);
  std::copy_n(cache_.begin() + int64_t{from} * model::kKvBlockTokens, model::kKvBlockTokens,
              cache_.begin() + int64_t{to} * model::kKvBlockTokens);
}

TokenId& FakeModelRunner::CacheAt(const model::SequenceStep& step, int64_t position) {
  const int64_t block = step.block_table[position / model::kKvBlockTokens];
  return cache_[block * model::kKvBlockTokens + position % model::kKvBlockTokens];
}

}  // namespace sluice::testing
