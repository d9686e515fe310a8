// ModelRunner: what the engine knows of a model. One call runs one step: the forward pass over a
// batch of tokens from any mix of sequences, and sampling for those that reached their last token.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/token.h"

namespace sluice::model {

// A page of the KV cache: an index below ModelRunner::num_kv_blocks().
using BlockId = int32_t;

// Positions that one KV block holds, of every layer.
inline constexpr int kKvBlockTokens = 16;

// How a token is drawn. First the logits are changed: logit_bias, repetition_penalty, then
// presence_penalty and frequency_penalty. Then filters apply in this order: temperature, top_k,
// top_p, min_p, typical_p. REQUIRES: the ranges in the comments.
struct SamplingParams {
  // Added to the logits of these tokens; no token twice.
  std::vector<std::pair<TokenId, float>> logit_bias;
  // Divides the positive logits of tokens that the prompt or the answer has, multiplies the
  // negative ones (Keskar et al., "CTRL", 2019); above 0, 1: none.
  float repetition_penalty = 1;
  // Taken off the logits of tokens that the answer has: once, and for each time.
  float presence_penalty = 0;
  float frequency_penalty = 0;
  float temperature = 0;  // 0: the most probable token, ties to the lowest id; otherwise above 0
  int top_k = 0;          // 0: all
  float top_p = 1;        // (0, 1]
  float min_p = 0;        // [0, 1]
  float typical_p = 1;    // (0, 1]; Meister et al., "Locally Typical Sampling", 2022
  // A token is drawn with a counter-based generator keyed by (seed, position), so it does not
  // depend on the batch.
  uint64_t seed = 0;
};

// A token with its log-probability under the model's own distribution, and the most probable tokens
// there.
struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;
  // Most probable first; as many as were asked for.
  std::vector<std::pair<TokenId, float>> top;
};

// One sequence's part of a step: compute `tokens`, which stand at first_position and on, and write
// their keys and values into the cache. Positions before first_position were computed by earlier
// steps.
struct SequenceStep {
  absl::Span<const TokenId> tokens;  // at least one
  int64_t first_position = 0;
  // The sequence's blocks, in order of position; enough for first_position + tokens.size()
  // positions.
  absl::Span<const BlockId> block_table;
  // Null: no token is wanted (the prompt goes on in a later step). Otherwise one is drawn after the
  // last of `tokens`.
  const SamplingParams* sampling = nullptr;
  // All tokens of the sequence so far, `tokens` the last of them: its prompt, then its answer. Set
  // if `sampling` is.
  absl::Span<const TokenId> history;
  int64_t num_prompt_tokens = 0;
  // Tokens that must not be drawn; never all of them.
  absl::Span<const TokenId> suppressed;
  // Report log-probabilities of the drawn token, and this many of the most probable ones.
  std::optional<int> logprobs;
  // Prompt log-probabilities: targets[i] is the token that follows tokens[i]; at most tokens.size()
  // entries. Empty: none wanted. prompt_logprobs is how many of the most probable ones are reported
  // with each.
  absl::Span<const TokenId> targets;
  int prompt_logprobs = 0;
};

struct SequenceResult {
  // The drawn token, if `sampling` was set.
  std::optional<TokenId> token;
  // Its log-probability, if `logprobs` was set.
  std::optional<TokenLogprob> logprob;
  // One entry per target.
  std::vector<TokenLogprob> prompt_logprobs;
};

// What the experts did in one step; views into the runner, valid until its next Run. L = sparse
// layers, E = experts.
struct ExpertStepLoad {
  // Tokens of the batch; each goes to top_k experts in each sparse layer.
  int64_t num_tokens = 0;
  absl::Span<const int32_t> tokens;  // [L, E] tokens routed to each expert
  absl::Span<const float> weights;   // [L, E] sum of their routing weights
  absl::Span<const float>
      probabilities;  // [L, E] sum over tokens of the router's probability for each expert
  absl::Span<const double> seconds;  // [L] time spent in router and experts
};

// Used by one thread (the engine's) alone.
class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  // Blocks in the KV cache.
  virtual int num_kv_blocks() const = 0;
  // The most tokens and sequences a step may have.
  virtual int max_step_tokens() const = 0;
  virtual int max_step_sequences() const = 0;

  // Runs one step. results()[i] belongs to batch[i]. The span is valid until the next Run.
  // REQUIRES: the batch keeps to the limits above; sequences share no block that is written.
  virtual absl::Span<const SequenceResult> Run(absl::Span<const SequenceStep> batch) = 0;

  // Copies the keys and values of all positions of a block to another.
  virtual void CopyBlock(BlockId from, BlockId to) = 0;

  // What the experts did in the last Run.
  virtual ExpertStepLoad expert_load() const = 0;
};

}  // namespace sluice::model
