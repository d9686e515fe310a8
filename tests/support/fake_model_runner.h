// FakeModelRunner: a model for tests of what stands above it. It is quick, its answers can be
// worked out by hand, and it checks that it is used as ModelRunner says.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "model/model_runner.h"
#include "support/manual_clock.h"

namespace sluice::testing {

// The token that follows `context`: a hash of all of it, below 1000.
TokenId FakeNextToken(absl::Span<const TokenId> context);

// What is drawn instead of `token` at a temperature above 0; below 1000.
TokenId FakeRandomToken(TokenId token, uint64_t seed, int64_t position);

// The log-probability of `token` after `previous`, with the `num_top` most probable tokens there:
// token, token + 1, ...
model::TokenLogprob FakeLogprob(TokenId previous, TokenId token, int num_top);

// Like any runner, for one thread. Its KV cache holds the tokens themselves, and a token is drawn
// from what the block table leads to, which must be the sequence's history: a block that two
// sequences write, that was freed too early or shared with a sequence of other tokens shows.
// Breaches of the contract of Run are test failures. A suppressed token gives way to the next.
class FakeModelRunner final : public model::ModelRunner {
 public:
  struct Options {
    int num_kv_blocks = 64;
    int max_step_tokens = 512;
    int max_step_sequences = 64;
    // Which token follows a context.
    std::function<TokenId(absl::Span<const TokenId>)> next_token = FakeNextToken;
    // A step lets this much time pass on `clock`, if there is one.
    ManualClock* clock = nullptr;
    absl::Duration step_time = absl::ZeroDuration();
    // Sees each batch first; called on the thread that calls Run.
    std::function<void(absl::Span<const model::SequenceStep>)> on_run;
  };

  // The experts that it claims to have: in one layer, token t going to expert t mod kNumExperts.
  static constexpr int kNumExperts = 4;

  explicit FakeModelRunner(Options options);

  int num_kv_blocks() const override { return options_.num_kv_blocks; }
  int max_step_tokens() const override { return options_.max_step_tokens; }
  int max_step_sequences() const override { return options_.max_step_sequences; }
  absl::Span<const model::SequenceResult> Run(absl::Span<const model::SequenceStep> batch) override;
  void CopyBlock(model::BlockId from, model::BlockId to) override;
  model::ExpertStepLoad expert_load() const override;

 private:
  void CheckBatch(absl::Span<const model::SequenceStep> batch) const;
  void WriteCache(const model::SequenceStep& step);
  TokenId Draw(const model::SequenceStep& step) const;
  std::vector<TokenId> ReadCache(const model::SequenceStep& step) const;
  TokenId& CacheAt(const model::SequenceStep& step, int64_t position);

  const Options options_;
  std::vector<TokenId> cache_;  // [num_kv_blocks, kKvBlockTokens]
  std::vector<model::SequenceResult> results_;
  // Of the last step; [1, kNumExperts].
  int64_t num_tokens_ = 0;
  std::vector<int32_t> expert_tokens_;
  std::vector<float> expert_weights_;
};

}  // namespace sluice::testing
