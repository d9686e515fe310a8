// Turns requests of the wire into what the engine takes, checking every field on the way. Errors
// name the field.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/config.h"
#include "scheduler/request.h"
#include "sluice/v1/generation.pb.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace sluice::api {

// Limits of generation.proto; see docs/architecture.md.
inline constexpr int kMaxRequestIdBytes = 128;
inline constexpr int kMaxStopTokenIds = 64;
inline constexpr int kMaxStopStrings = 16;
inline constexpr int kMaxStopStringBytes = 256;
inline constexpr int kMaxLogprobs = 20;
inline constexpr float kMaxTemperature = 100;
inline constexpr int kMaxLogitBiases = 1024;
inline constexpr float kMaxLogitBias = 100;
inline constexpr float kMaxRepetitionPenalty = 10;
inline constexpr float kMaxPenalty = 2;
inline constexpr int kMaxChoices = 16;
inline constexpr int kMaxPriority = 100;
inline constexpr int kMaxCacheSaltBytes = 128;

// What a request is checked against. Immutable; the pointers are borrowed and must outlive it.
struct ModelFacts {
  // Under which the model is served.
  std::string name;
  // Token ids that the model knows: [0, vocab_size).
  int vocab_size = 0;
  // The longest prompt and answer together.
  int64_t max_context = 0;
  model::GenerationDefaults defaults;
  // Of an answer, if neither the request nor `defaults` says.
  int default_max_tokens = 0;
  const tokenizer::Tokenizer* tokenizer = nullptr;
  // Null: there is none, and chat_unavailable_reason says why.
  const tokenizer::ChatTemplate* chat_template = nullptr;
  std::string chat_unavailable_reason;
};

// What is made up where the request is silent.
struct MadeUp {
  std::string request_id;
  uint64_t seed = 0;
};

struct ParsedRequest {
  // Its deadline is left to the caller.
  scheduler::Request request;
  std::vector<std::string> stop_strings;
  bool skip_special_tokens = true;
  bool include_stop = false;
  // What the answer's text takes from the prompt.
  tokenizer::DecodeContext context;
  // The prompt's text, if it is to be part of the answer.
  std::string echo;
};

// The functions below are pure. Beside INVALID_ARGUMENT they say NOT_FOUND for another model's name
// and FAILED_PRECONDITION for a chat that cannot be rendered.

absl::StatusOr<ParsedRequest> ParseGenerate(const v1::GenerateRequest& wire,
                                            const ModelFacts& facts, const MadeUp& made_up);

absl::StatusOr<v1::TokenizeResponse> RunTokenize(const v1::TokenizeRequest& wire,
                                                 const ModelFacts& facts);

absl::StatusOr<v1::DetokenizeResponse> RunDetokenize(const v1::DetokenizeRequest& wire,
                                                     const ModelFacts& facts);

}  // namespace sluice::api
