// GenerationFlags: the flags that `generate`, `chat` and `load` share, and the request they make.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sluice/v1/generation.pb.h"

namespace CLI {
class App;
}

namespace sluice::cli {

// A flag that is not given leaves its field absent, so that the server's default holds. Values are
// checked by the server alone.
struct GenerationFlags {
  std::optional<std::string> model;
  std::optional<std::string> request_id;

  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<uint64_t> seed;

  std::optional<int32_t> max_tokens;
  std::vector<std::string> stop_strings;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;

  std::optional<int32_t> logprobs;
  std::optional<int32_t> prompt_logprobs;
  std::optional<bool> add_special_tokens;
  std::optional<bool> skip_special_tokens;

  // The request, without a prompt.
  v1::GenerateRequest ToRequest() const;
};

// --model and everything about sampling and stopping.
void AddSamplingFlags(CLI::App& app, GenerationFlags& flags);
// What only a single request can want: its id, log-probabilities and special tokens.
void AddRequestFlags(CLI::App& app, GenerationFlags& flags);

}  // namespace sluice::cli
