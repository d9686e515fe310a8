#include "api/request_parser.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "api/detokenizing.h"
#include "api/status_mapping.h"
#include "base/status_macros.h"

namespace sluice::api {
namespace {

// A prompt, the field that it came from, and what a chat template made of it.
struct Prompt {
  std::vector<TokenId> ids;
  absl::string_view field;
  std::string rendered;
};

template <typename Wire>
absl::Status CheckModel(const Wire& wire, const ModelFacts& facts) {
  if (!wire.has_model() || wire.model() == facts.name) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat(
      "model: \"", wire.model(), "\" is not served here; this server has \"", facts.name, "\""));
}

absl::Status CheckRequestId(absl::string_view id) {
  if (id.empty()) return FieldError("request_id", "is empty");
  if (id.size() > kMaxRequestIdBytes) {
    return FieldError("request_id", absl::StrCat("has ", id.size(), " characters; at most ",
                                                 kMaxRequestIdBytes, " are allowed"));
  }
  if (!absl::c_all_of(id, absl::ascii_isprint)) {
    return FieldError("request_id", "has characters that are not printable ASCII");
  }
  return absl::OkStatus();
}

// A scalar in [low, high], or (low, high] if `open`. NaN is never inside.
template <typename T>
absl::Status CheckRange(absl::string_view field, T value, T low, T high, bool open = false) {
  if ((open ? value > low : value >= low) && value <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat("is ", value, "; it must be ", open ? "above " : "from ",
                                        low, open ? " and at most " : " to ", high));
}

absl::Status CheckIds(absl::string_view field, absl::Span<const TokenId> ids, int vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      return FieldError(
          absl::StrCat(field, "[", i, "]"),
          absl::StrCat("is ", ids[i], "; the vocabulary has ids from 0 to ", vocab_size - 1));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view field, absl::string_view text,
                                            bool add_special_tokens, const ModelFacts& facts) {
  auto ids = facts.tokenizer->Encode(text, {add_special_tokens});
  if (!ids.ok()) return FieldError(field, ids.status().message());
  // A tokenizer.json may know more tokens than the model has embeddings for.
  for (const TokenId id : *ids) {
    if (id >= facts.vocab_size) {
      return FieldError(field, absl::StrCat("contains token ", id, ", but the model knows only ",
                                            facts.vocab_size, " tokens"));
    }
  }
  return ids;
}

absl::StatusOr<std::string> RenderChat(const v1::ChatPrompt& chat, const ModelFacts& facts) {
  if (facts.chat_template == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "chat: this model has no usable chat template: ", facts.chat_unavailable_reason));
  }
  if (chat.messages().empty()) return FieldError("chat.messages", "is empty");
  std::vector<tokenizer::ChatMessage> messages;
  messages.reserve(chat.messages_size());
  for (const v1::ChatMessage& message : chat.messages()) {
    if (message.role().empty()) {
      return FieldError(absl::StrCat("chat.messages[", messages.size(), "].role"), "is empty");
    }
    messages.push_back({message.role(), message.content()});
  }
  const bool open_turn = !chat.has_add_generation_prompt() || chat.add_generation_prompt();
  auto text = facts.chat_template->Render(messages, open_turn);
  if (!text.ok()) return FieldError("chat", text.status().message());
  return text;
}

// `at_least`: "at least " if that is the fewest tokens it may have.
absl::Status PromptTooLong(absl::string_view field, absl::string_view at_least, size_t num_tokens,
                           const ModelFacts& facts) {
  return FieldError(
      field, absl::StrCat("makes a prompt of ", at_least, num_tokens,
                          " tokens; prompt and answer together may have ", facts.max_context));
}

// Refuses what is too long however it is encoded, which would take its time.
absl::Status CheckTextBytes(absl::string_view field, absl::string_view text,
                            const ModelFacts& facts) {
  const std::optional<size_t> max_token_bytes = facts.tokenizer->max_token_bytes();
  if (!max_token_bytes) return absl::OkStatus();
  const size_t fewest = (text.size() + *max_token_bytes - 1) / *max_token_bytes;
  if (static_cast<int64_t>(fewest) < facts.max_context) return absl::OkStatus();
  return PromptTooLong(field, "at least ", fewest, facts);
}

// `for_model`: whether it is to fit into the model's context.
absl::StatusOr<Prompt> ReadChat(const v1::ChatPrompt& chat, const ModelFacts& facts,
                                bool for_model) {
  Prompt prompt{{}, "chat", {}};
  ASSIGN_OR_RETURN(prompt.rendered, RenderChat(chat, facts));
  if (for_model) RETURN_IF_ERROR(CheckTextBytes(prompt.field, prompt.rendered, facts));
  ASSIGN_OR_RETURN(prompt.ids, Encode(prompt.field, prompt.rendered, false, facts));
  return prompt;
}

absl::StatusOr<Prompt> ReadPrompt(const v1::GenerateRequest& wire, const ModelFacts& facts) {
  Prompt prompt;
  switch (wire.prompt_case()) {
    case v1::GenerateRequest::kText: {
      prompt.field = "text";
      const bool special = !wire.has_add_special_tokens() || wire.add_special_tokens();
      RETURN_IF_ERROR(CheckTextBytes(prompt.field, wire.text(), facts));
      ASSIGN_OR_RETURN(prompt.ids, Encode(prompt.field, wire.text(), special, facts));
      break;
    }
    case v1::GenerateRequest::kTokenIds: {
      prompt.field = "token_ids";
      prompt.ids.assign(wire.token_ids().ids().begin(), wire.token_ids().ids().end());
      RETURN_IF_ERROR(CheckIds("token_ids.ids", prompt.ids, facts.vocab_size));
      break;
    }
    case v1::GenerateRequest::kChat: {
      ASSIGN_OR_RETURN(prompt, ReadChat(wire.chat(), facts, /*for_model=*/true));
      break;
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return FieldError("prompt", "is missing: set text, token_ids or chat");
  }
  if (prompt.ids.empty()) return FieldError(prompt.field, "makes an empty prompt");
  // An answer has at least one token.
  if (static_cast<int64_t>(prompt.ids.size()) >= facts.max_context) {
    return PromptTooLong(prompt.field, "", prompt.ids.size(), facts);
  }
  return prompt;
}

// In ascending order of ids; a map of the wire has none.
absl::StatusOr<std::vector<std::pair<TokenId, float>>> ReadLogitBias(
    const v1::SamplingOptions& wire, int vocab_size) {
  if (wire.logit_bias_size() > kMaxLogitBiases) {
    return FieldError("sampling.logit_bias",
                      absl::StrCat("has ", wire.logit_bias_size(), " entries; at most ",
                                   kMaxLogitBiases, " are allowed"));
  }
  std::vector<std::pair<TokenId, float>> biases(wire.logit_bias().begin(), wire.logit_bias().end());
  absl::c_sort(biases, [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [id, bias] : biases) {
    const std::string field = absl::StrCat("sampling.logit_bias[", id, "]");
    if (id < 0 || id >= vocab_size) {
      return FieldError(
          field, absl::StrCat("is of no token; the vocabulary has ids from 0 to ", vocab_size - 1));
    }
    RETURN_IF_ERROR(CheckRange(field, bias, -kMaxLogitBias, kMaxLogitBias));
  }
  return biases;
}

absl::StatusOr<model::SamplingParams> ReadSampling(const v1::SamplingOptions& wire,
                                                   const ModelFacts& facts, uint64_t made_up_seed) {
  const model::GenerationDefaults& defaults = facts.defaults;
  model::SamplingParams sampling;
  if (defaults.do_sample) {
    // A filter that generation_config.json does not name is off.
    sampling.temperature = std::min(defaults.temperature.value_or(1.0f), kMaxTemperature);
    sampling.top_k = defaults.top_k.value_or(0);
    sampling.top_p = defaults.top_p.value_or(1.0f);
    sampling.min_p = defaults.min_p.value_or(0.0f);
    sampling.typical_p = defaults.typical_p.value_or(1.0f);
  }
  sampling.repetition_penalty =
      std::min(defaults.repetition_penalty.value_or(1.0f), kMaxRepetitionPenalty);
  if (wire.has_temperature()) sampling.temperature = wire.temperature();
  if (wire.has_top_k()) sampling.top_k = wire.top_k();
  if (wire.has_top_p()) sampling.top_p = wire.top_p();
  if (wire.has_min_p()) sampling.min_p = wire.min_p();
  if (wire.has_typical_p()) sampling.typical_p = wire.typical_p();
  if (wire.has_repetition_penalty()) sampling.repetition_penalty = wire.repetition_penalty();
  sampling.presence_penalty = wire.presence_penalty();
  sampling.frequency_penalty = wire.frequency_penalty();
  sampling.seed = wire.has_seed() ? wire.seed() : made_up_seed;
  RETURN_IF_ERROR(CheckRange("sampling.temperature", sampling.temperature, 0.0f, kMaxTemperature));
  if (sampling.top_k < 0) {
    return FieldError("sampling.top_k",
                      absl::StrCat("is ", sampling.top_k, "; it must not be negative"));
  }
  RETURN_IF_ERROR(CheckRange("sampling.top_p", sampling.top_p, 0.0f, 1.0f, /*open=*/true));
  RETURN_IF_ERROR(CheckRange("sampling.min_p", sampling.min_p, 0.0f, 1.0f));
  RETURN_IF_ERROR(CheckRange("sampling.typical_p", sampling.typical_p, 0.0f, 1.0f, /*open=*/true));
  RETURN_IF_ERROR(CheckRange("sampling.repetition_penalty", sampling.repetition_penalty, 0.0f,
                             kMaxRepetitionPenalty, /*open=*/true));
  RETURN_IF_ERROR(CheckRange("sampling.presence_penalty", sampling.presence_penalty, -kMaxPenalty,
                             kMaxPenalty));
  RETURN_IF_ERROR(CheckRange("sampling.frequency_penalty", sampling.frequency_penalty, -kMaxPenalty,
                             kMaxPenalty));
  ASSIGN_OR_RETURN(sampling.logit_bias, ReadLogitBias(wire, facts.vocab_size));
  return sampling;
}

absl::StatusOr<int> ReadMaxTokens(const v1::StoppingOptions& wire, const ModelFacts& facts,
                                  size_t prompt_tokens) {
  const int64_t room = facts.max_context - static_cast<int64_t>(prompt_tokens);
  if (!wire.has_max_tokens()) {
    const int64_t wanted = facts.defaults.max_new_tokens.value_or(facts.default_max_tokens);
    return static_cast<int>(std::clamp<int64_t>(wanted, 1, room));
  }
  if (wire.max_tokens() < 1) {
    return FieldError("stopping.max_tokens",
                      absl::StrCat("is ", wire.max_tokens(), "; it must be at least 1"));
  }
  if (wire.max_tokens() > room) {
    return FieldError(
        "stopping.max_tokens",
        absl::StrCat("is ", wire.max_tokens(), ", but after a prompt of ", prompt_tokens,
                     " tokens the context of ", facts.max_context, " has room for ", room));
  }
  return wire.max_tokens();
}

// `max_tokens` and `stop_token_ids` (sorted) are the request's own.
absl::StatusOr<int> ReadMinTokens(const v1::StoppingOptions& wire, int max_tokens,
                                  absl::Span<const TokenId> stop_token_ids, int vocab_size) {
  const int min_tokens = wire.min_tokens();
  if (min_tokens < 0 || min_tokens > max_tokens) {
    return FieldError(
        "stopping.min_tokens",
        absl::StrCat("is ", min_tokens, "; it must be from 0 to max_tokens, which is ", max_tokens,
                     wire.has_max_tokens() ? "" : " by default"));
  }
  const auto beyond = absl::c_lower_bound(stop_token_ids, vocab_size);
  if (min_tokens > 0 && beyond - stop_token_ids.begin() == vocab_size) {
    return FieldError("stopping.min_tokens",
                      "leaves nothing to generate: all tokens of the vocabulary end the answer");
  }
  return min_tokens;
}

absl::StatusOr<std::vector<TokenId>> ReadStopTokens(const v1::StoppingOptions& wire,
                                                    const ModelFacts& facts) {
  std::vector<TokenId> ids(wire.stop_token_ids().begin(), wire.stop_token_ids().end());
  if (ids.size() > kMaxStopTokenIds) {
    return FieldError("stopping.stop_token_ids", absl::StrCat("has ", ids.size(), " ids; at most ",
                                                              kMaxStopTokenIds, " are allowed"));
  }
  RETURN_IF_ERROR(CheckIds("stopping.stop_token_ids", ids, facts.vocab_size));
  if (!wire.ignore_eos()) {
    ids.insert(ids.end(), facts.defaults.eos_token_ids.begin(), facts.defaults.eos_token_ids.end());
  }
  absl::c_sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

absl::StatusOr<std::vector<std::string>> ReadStopStrings(const v1::StoppingOptions& wire) {
  if (wire.stop_strings_size() > kMaxStopStrings) {
    return FieldError("stopping.stop_strings",
                      absl::StrCat("has ", wire.stop_strings_size(), " texts; at most ",
                                   kMaxStopStrings, " are allowed"));
  }
  std::vector<std::string> texts(wire.stop_strings().begin(), wire.stop_strings().end());
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string field = absl::StrCat("stopping.stop_strings[", i, "]");
    if (texts[i].empty()) return FieldError(field, "is empty");
    if (texts[i].size() > kMaxStopStringBytes) {
      return FieldError(field, absl::StrCat("has ", texts[i].size(), " bytes; at most ",
                                            kMaxStopStringBytes, " are allowed"));
    }
  }
  return texts;
}

// No more tokens can be reported than there are.
absl::StatusOr<int> ReadLogprobs(absl::string_view field, int wanted, int vocab_size) {
  RETURN_IF_ERROR(CheckRange(field, wanted, 0, kMaxLogprobs));
  return std::min(wanted, vocab_size);
}

// What concerns the engine alone.
absl::Status ReadScheduling(const v1::GenerateRequest& wire, scheduler::Request& request) {
  if (wire.has_num_choices()) request.num_choices = wire.num_choices();
  RETURN_IF_ERROR(CheckRange("num_choices", request.num_choices, 1, kMaxChoices));
  request.priority = wire.priority();
  RETURN_IF_ERROR(CheckRange("priority", request.priority, -kMaxPriority, kMaxPriority));
  request.bypass_prefix_cache = wire.bypass_prefix_cache();
  if (wire.cache_salt().size() > kMaxCacheSaltBytes) {
    return FieldError("cache_salt",
                      absl::StrCat("has ", wire.cache_salt().size(), " bytes; at most ",
                                   kMaxCacheSaltBytes, " are allowed"));
  }
  request.cache_salt = wire.cache_salt();
  return absl::OkStatus();
}

std::string TextOf(const Prompt& prompt, const v1::GenerateRequest& wire, const ModelFacts& facts,
                   bool skip_special_tokens) {
  if (wire.has_text()) return wire.text();
  if (wire.has_chat()) return prompt.rendered;
  return DecodeKnown(*facts.tokenizer, prompt.ids, {skip_special_tokens});
}

}  // namespace

absl::StatusOr<ParsedRequest> ParseGenerate(const v1::GenerateRequest& wire,
                                            const ModelFacts& facts, const MadeUp& made_up) {
  ParsedRequest parsed;
  scheduler::Request& request = parsed.request;
  request.id = wire.has_request_id() ? wire.request_id() : made_up.request_id;
  RETURN_IF_ERROR(CheckRequestId(request.id));
  RETURN_IF_ERROR(CheckModel(wire, facts));
  // What is cheap to check comes before the prompt, which may be long.
  RETURN_IF_ERROR(ReadScheduling(wire, request));
  ASSIGN_OR_RETURN(request.sampling, ReadSampling(wire.sampling(), facts, made_up.seed));
  ASSIGN_OR_RETURN(request.stop_token_ids, ReadStopTokens(wire.stopping(), facts));
  ASSIGN_OR_RETURN(parsed.stop_strings, ReadStopStrings(wire.stopping()));
  const v1::ResponseOptions& response = wire.response();
  if (response.has_logprobs()) {
    ASSIGN_OR_RETURN(request.logprobs,
                     ReadLogprobs("response.logprobs", response.logprobs(), facts.vocab_size));
  }
  if (response.has_prompt_logprobs()) {
    ASSIGN_OR_RETURN(
        request.prompt_logprobs,
        ReadLogprobs("response.prompt_logprobs", response.prompt_logprobs(), facts.vocab_size));
  }
  parsed.skip_special_tokens =
      !response.has_skip_special_tokens() || response.skip_special_tokens();
  parsed.include_stop = wire.stopping().include_stop();
  ASSIGN_OR_RETURN(Prompt prompt, ReadPrompt(wire, facts));
  if (response.echo()) parsed.echo = TextOf(prompt, wire, facts, parsed.skip_special_tokens);
  parsed.context = tokenizer::ContextOf(*facts.tokenizer, prompt.ids, {parsed.skip_special_tokens});
  request.prompt = std::move(prompt.ids);
  ASSIGN_OR_RETURN(request.max_tokens,
                   ReadMaxTokens(wire.stopping(), facts, request.prompt.size()));
  ASSIGN_OR_RETURN(request.min_tokens, ReadMinTokens(wire.stopping(), request.max_tokens,
                                                     request.stop_token_ids, facts.vocab_size));
  return parsed;
}

absl::StatusOr<v1::TokenizeResponse> RunTokenize(const v1::TokenizeRequest& wire,
                                                 const ModelFacts& facts) {
  RETURN_IF_ERROR(CheckModel(wire, facts));
  Prompt prompt;
  switch (wire.input_case()) {
    case v1::TokenizeRequest::kText: {
      const bool special = !wire.has_add_special_tokens() || wire.add_special_tokens();
      ASSIGN_OR_RETURN(prompt.ids, Encode("text", wire.text(), special, facts));
      break;
    }
    case v1::TokenizeRequest::kChat: {
      ASSIGN_OR_RETURN(prompt, ReadChat(wire.chat(), facts, /*for_model=*/false));
      break;
    }
    case v1::TokenizeRequest::INPUT_NOT_SET:
      return FieldError("input", "is missing: set text or chat");
  }
  v1::TokenizeResponse response;
  response.mutable_token_ids()->Add(prompt.ids.begin(), prompt.ids.end());
  if (wire.pieces()) {
    for (const TokenId id : prompt.ids) response.add_pieces(TokenText(*facts.tokenizer, id));
  }
  response.set_rendered_prompt(std::move(prompt.rendered));
  return response;
}

absl::StatusOr<v1::DetokenizeResponse> RunDetokenize(const v1::DetokenizeRequest& wire,
                                                     const ModelFacts& facts) {
  RETURN_IF_ERROR(CheckModel(wire, facts));
  const std::vector<TokenId> ids(wire.token_ids().begin(), wire.token_ids().end());
  RETURN_IF_ERROR(CheckIds("token_ids", ids, facts.vocab_size));
  const bool skip = !wire.has_skip_special_tokens() || wire.skip_special_tokens();
  v1::DetokenizeResponse response;
  response.set_text(DecodeKnown(*facts.tokenizer, ids, {skip}));
  return response;
}

}  // namespace sluice::api
