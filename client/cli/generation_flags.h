// GenerationFlags: the flags that `generate`, `chat` and `load` share, and the request they make.
#pragma once

#include <cstdint>
#include <map>
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
  std::optional<float> typical_p;
  std::optional<float> repetition_penalty;
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  // By token id.
  std::map<int32_t, float> logit_bias;
  std::optional<uint64_t> seed;

  std::optional<int32_t> max_tokens;
  std::vector<std::string> stop_strings;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  std::optional<int32_t> min_tokens;
  bool include_stop = false;

  std::optional<int32_t> priority;
  bool bypass_prefix_cache = false;
  std::optional<std::string> cache_salt;

  std::optional<int32_t> logprobs;
  std::optional<int32_t> prompt_logprobs;
  std::optional<bool> add_special_tokens;
  std::optional<bool> skip_special_tokens;
  std::optional<int32_t> num_choices;
  bool echo = false;

  // The request, without a prompt.
  v1::GenerateRequest ToRequest() const;
};

// --model and everything about sampling, stopping and scheduling.
void AddSamplingFlags(CLI::App& app, GenerationFlags& flags);
// What only a single request can want: its id, log-probabilities, special tokens, choices and echo.
void AddRequestFlags(CLI::App& app, GenerationFlags& flags);

}  // namespace sluice::cli
