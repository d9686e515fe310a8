// What a client asks of the engine, in token ids: text never reaches this room.
#pragma once

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
  // At least 1; prompt and answer together fit into the context.
  int max_tokens = 1;
  // Generating one of these ends the answer (end-of-sequence tokens among them, unless they are to
  // be ignored).
  std::vector<TokenId> stop_token_ids;
  // Log-probabilities wanted: of how many of the most probable tokens beside the chosen one.
  std::optional<int> logprobs;
  std::optional<int> prompt_logprobs;
  // The request ends with DEADLINE_EXCEEDED when this passes, waiting or running.
  absl::Time deadline = absl::InfiniteFuture();
};

}  // namespace sluice::scheduler
