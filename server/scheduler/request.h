// What a client asks of the engine, in token ids: text never reaches this room.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/token.h"
#include "model/model_runner.h"

namespace sluice::scheduler {

struct Request {
  // Unique among the requests that wait or run.
  std::string id;
  std::vector<TokenId> prompt;
  model::SamplingParams sampling;
  // Answers wanted, at least 1, each a choice with a number from 0 on. They share the prompt.
  // Choice c is drawn with the seed ChoiceSeed(sampling.seed, c).
  int num_choices = 1;
  // At least 1; prompt and answer together fit into the context.
  int max_tokens = 1;
  // So many tokens at least: before, no token of stop_token_ids is drawn. At most max_tokens.
  int min_tokens = 0;
  // Generating one of these ends the answer (end-of-sequence tokens among them, unless they are to
  // be ignored).
  std::vector<TokenId> stop_token_ids;
  // Log-probabilities wanted: of how many of the most probable tokens beside the chosen one.
  std::optional<int> logprobs;
  std::optional<int> prompt_logprobs;
  // Requests of a higher priority are admitted first, and are the last to give up their blocks; but
  // who has waited long rises (EngineLimits::priority_ageing).
  int priority = 0;
  // Computes the whole prompt, and leaves nothing for others to find.
  bool bypass_prefix_cache = false;
  // Only requests with the same salt share cached prefixes.
  std::string cache_salt;
  // The request ends with DEADLINE_EXCEEDED when this passes, waiting or running.
  absl::Time deadline = absl::InfiniteFuture();
};

// The seed itself for choice 0; distinct for distinct choices.
constexpr uint64_t ChoiceSeed(uint64_t seed, int choice) {
  return seed + static_cast<uint64_t>(choice) * 0x9e3779b97f4a7c15;
}

}  // namespace sluice::scheduler
