// Any bytes as a request: it is refused with an error that names a field, or it is within every
// limit of generation.proto and can be answered.
//
//   0      1       2
//   +------+-------+---------+
//   | kind | facts | message |
//   +------+-------+---------+
//
// kind: g(enerate), t(okenize) or d(etokenize), as it comes over the wire; G, T or D, in
// protobuf's text format. facts: what it is checked against.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "api/answer.h"
#include "api/library_logs.h"
#include "api/request_parser.h"
#include "api/status_mapping.h"
#include "api/wire_message.h"
#include "base/check.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/utf8.h"

namespace sluice::api {
namespace {

// One token per byte, then one without text.
class ByteTokenizer final : public tokenizer::Tokenizer {
 public:
  absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text,
                                              EncodeOptions options) const override {
    CHECK(tokenizer::IsValidUtf8(text));
    std::vector<TokenId> ids;
    if (options.add_special_tokens) ids.push_back(256);
    for (const char byte : text) ids.push_back(static_cast<uint8_t>(byte));
    return ids;
  }
  std::string Decode(absl::Span<const TokenId> ids, DecodeOptions) const override {
    std::string text;
    for (const TokenId id : ids) {
      CHECK(id >= 0 && id < vocab_size());
      if (id < 256) text += id < 128 ? std::string(1, static_cast<char>(id)) : "\xEF\xBF\xBD";
    }
    return text;
  }
  int vocab_size() const override { return 257; }
};

class SilentCollector final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
  void AddWarning(int, int, const std::string&) override {}
};

const tokenizer::ChatTemplate& Template() {
  static const tokenizer::ChatTemplate* const chat_template =
      tokenizer::ChatTemplate::Parse(
          "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
          "{% endfor %}{% if add_generation_prompt %}<a>{% endif %}",
          {})
          .value()
          .release();
  return *chat_template;
}

ModelFacts MakeFacts(uint8_t choice, const tokenizer::Tokenizer& tokenizer) {
  ModelFacts facts;
  facts.name = "m";
  facts.vocab_size = choice & 1 ? 300 : 3;
  facts.max_context = choice & 2 ? 60 : 4;
  facts.default_max_tokens = 16;
  facts.defaults.eos_token_ids = {2, 299};
  facts.tokenizer = &tokenizer;
  if (choice & 4) {
    facts.chat_template = &Template();
  } else {
    facts.chat_unavailable_reason = "there is none";
  }
  if (choice & 8) {
    facts.defaults.do_sample = true;
    facts.defaults.temperature = 1e6f;
    facts.defaults.top_k = 7;
    facts.defaults.typical_p = 0.5f;
    facts.defaults.repetition_penalty = 1e6f;
    facts.defaults.max_new_tokens = 1 << 30;
  }
  return facts;
}

// `value` is at least `low` and at most `high`, and no NaN.
template <typename T>
void CheckWithin(T value, T low, T high) {
  CHECK(value >= low && value <= high);
}

void CheckSampling(const model::SamplingParams& sampling, int vocab_size) {
  CheckWithin(sampling.temperature, 0.0f, kMaxTemperature);
  CHECK(sampling.top_k >= 0);
  CHECK(sampling.top_p > 0 && sampling.top_p <= 1);
  CheckWithin(sampling.min_p, 0.0f, 1.0f);
  CHECK(sampling.typical_p > 0 && sampling.typical_p <= 1);
  CHECK(sampling.repetition_penalty > 0 && sampling.repetition_penalty <= kMaxRepetitionPenalty);
  CheckWithin(sampling.presence_penalty, -kMaxPenalty, kMaxPenalty);
  CheckWithin(sampling.frequency_penalty, -kMaxPenalty, kMaxPenalty);
  CHECK(sampling.logit_bias.size() <= kMaxLogitBiases);
  TokenId last = -1;
  for (const auto& [id, bias] : sampling.logit_bias) {
    CHECK(id > last && id < vocab_size);
    CheckWithin(bias, -kMaxLogitBias, kMaxLogitBias);
    last = id;
  }
}

void CheckAccepted(const ParsedRequest& parsed, const ModelFacts& facts) {
  const scheduler::Request& request = parsed.request;
  CHECK(!request.id.empty() && request.id.size() <= kMaxRequestIdBytes);
  CHECK(std::all_of(request.id.begin(), request.id.end(), absl::ascii_isprint));
  CHECK(!request.prompt.empty() && request.max_tokens >= 1);
  const auto num_prompt = static_cast<int64_t>(request.prompt.size());
  CHECK(num_prompt + request.max_tokens <= facts.max_context);
  for (const TokenId id : request.prompt) CHECK(id >= 0 && id < facts.vocab_size);
  CheckWithin(request.min_tokens, 0, request.max_tokens);
  CheckWithin(request.num_choices, 1, kMaxChoices);
  CheckWithin(request.priority, -kMaxPriority, kMaxPriority);
  CHECK(request.cache_salt.size() <= kMaxCacheSaltBytes);
  CheckSampling(request.sampling, facts.vocab_size);

  CHECK(request.stop_token_ids.size() <= kMaxStopTokenIds + facts.defaults.eos_token_ids.size());
  for (size_t i = 0; i < request.stop_token_ids.size(); ++i) {
    CHECK(request.stop_token_ids[i] > (i == 0 ? -1 : request.stop_token_ids[i - 1]));
  }
  const auto stops_all = [&] {
    int num_stops = 0;
    for (const TokenId id : request.stop_token_ids) num_stops += id < facts.vocab_size;
    return num_stops == facts.vocab_size;
  };
  CHECK(request.min_tokens == 0 || !stops_all());
  CHECK(parsed.stop_strings.size() <= kMaxStopStrings);
  for (const std::string& text : parsed.stop_strings) {
    CHECK(!text.empty() && text.size() <= kMaxStopStringBytes);
  }
  for (const std::optional<int> logprobs : {request.logprobs, request.prompt_logprobs}) {
    CheckWithin(logprobs.value_or(0), 0, std::min(kMaxLogprobs, facts.vocab_size));
  }
}

// Gives the prompt back as the answer of every choice.
void AnswerIt(ParsedRequest parsed, const ModelFacts& facts) {
  const scheduler::Request& request = parsed.request;
  const int num_tokens = std::min(request.max_tokens, static_cast<int>(request.prompt.size()));
  Answer answer(*facts.tokenizer, {.request_id = request.id,
                                   .prompt_tokens = static_cast<int>(request.prompt.size()),
                                   .stop_token_ids = request.stop_token_ids,
                                   .stop_strings = std::move(parsed.stop_strings),
                                   .skip_special_tokens = parsed.skip_special_tokens,
                                   .num_choices = request.num_choices,
                                   .min_tokens = request.min_tokens,
                                   .include_stop = parsed.include_stop,
                                   .context = parsed.context,
                                   .echo = parsed.echo});
  std::vector<scheduler::StreamEvent> events = {scheduler::StartedEvent{}};
  for (int i = 0; i < num_tokens; ++i) {
    for (int choice = 0; choice < request.num_choices; ++choice) {
      events.push_back(scheduler::TokenEvent{.choice = choice, .token = request.prompt[i]});
    }
  }
  for (int choice = 0; choice < request.num_choices; ++choice) {
    events.push_back(scheduler::FinishedEvent{choice, scheduler::FinishReason::kLength});
  }
  std::vector<std::string> texts(request.num_choices);
  std::vector<int> finished(request.num_choices);
  for (const v1::GenerateResponse& message : answer.Consume(std::move(events))) {
    if (message.has_delta()) texts[message.delta().choice()] += message.delta().text();
    if (message.has_finished()) ++finished[message.finished().choice()];
  }
  CHECK(answer.end().has_value() && answer.end()->ok());
  for (const std::string& text : texts) {
    CHECK(text == texts[0] && absl::StartsWith(text, parsed.echo));
    CHECK(tokenizer::IsValidUtf8(text));
  }
  for (const int count : finished) CHECK(count == 1);
}

// An error that its client can act upon.
void CheckRefusal(const absl::Status& status) {
  if (absl::IsNotFound(status)) {
    CHECK(absl::StartsWith(status.message(), "model: "));
    return;
  }
  if (absl::IsFailedPrecondition(status)) {
    CHECK(absl::StartsWith(status.message(), "chat: "));
    return;
  }
  CHECK(absl::IsInvalidArgument(status));
  google::rpc::Status details;
  google::rpc::BadRequest bad_request;
  CHECK(details.ParseFromString(ToGrpcStatus(status).error_details()));
  CHECK(details.details_size() == 1 && details.details(0).UnpackTo(&bad_request));
  CHECK(bad_request.field_violations_size() == 1);
  const std::string& field = bad_request.field_violations(0).field();
  CHECK(!field.empty() && absl::StartsWith(status.message(), absl::StrCat(field, ": ")));
}

// The message in these bytes, if there is one.
template <typename Message>
std::optional<Message> Read(absl::string_view bytes, bool is_text) {
  if (is_text) {
    SilentCollector collector;
    google::protobuf::TextFormat::Parser parser;
    parser.RecordErrorsTo(&collector);
    Message message;
    if (!parser.ParseFromString(std::string(bytes), &message)) return std::nullopt;
    // Strings that are not UTF-8 do not come over the wire.
    return Read<Message>(message.SerializePartialAsString(), false);
  }
  grpc::Slice slice(bytes.data(), bytes.size());
  auto message = Parse<Message>(grpc::ByteBuffer(&slice, 1));
  if (message.ok()) return *std::move(message);
  CHECK(absl::IsInvalidArgument(message.status()));
  return std::nullopt;
}

void Generate(absl::string_view bytes, bool is_text, const ModelFacts& facts) {
  const auto wire = Read<v1::GenerateRequest>(bytes, is_text);
  if (!wire) return;
  absl::StatusOr<ParsedRequest> parsed = ParseGenerate(*wire, facts, {"made-up", 7});
  if (!parsed.ok()) return CheckRefusal(parsed.status());
  CheckAccepted(*parsed, facts);
  AnswerIt(*std::move(parsed), facts);
}

void Tokenize(absl::string_view bytes, bool is_text, const ModelFacts& facts) {
  const auto wire = Read<v1::TokenizeRequest>(bytes, is_text);
  if (!wire) return;
  const absl::StatusOr<v1::TokenizeResponse> response = RunTokenize(*wire, facts);
  if (!response.ok()) return CheckRefusal(response.status());
  CHECK(response->pieces_size() == (wire->pieces() ? response->token_ids_size() : 0));
  for (const TokenId id : response->token_ids()) CHECK(id >= 0 && id < facts.vocab_size);
}

void Detokenize(absl::string_view bytes, bool is_text, const ModelFacts& facts) {
  const auto wire = Read<v1::DetokenizeRequest>(bytes, is_text);
  if (!wire) return;
  const absl::StatusOr<v1::DetokenizeResponse> response = RunDetokenize(*wire, facts);
  if (!response.ok()) return CheckRefusal(response.status());
  CHECK(tokenizer::IsValidUtf8(response->text()));
}

}  // namespace
}  // namespace sluice::api

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::api;  // NOLINT(google-build-using-namespace)
  if (size < 2) return 0;
  static const ByteTokenizer* const tokenizer = [] {
    // What protobuf has to say about strings that are not UTF-8.
    RedirectLibraryLogs();
    return new ByteTokenizer;
  }();
  const ModelFacts facts = MakeFacts(data[1], *tokenizer);
  const absl::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const char kind = static_cast<char>(data[0]);
  const bool is_text = absl::ascii_isupper(kind);
  switch (absl::ascii_tolower(kind)) {
    case 'g':
      Generate(bytes, is_text, facts);
      break;
    case 't':
      Tokenize(bytes, is_text, facts);
      break;
    case 'd':
      Detokenize(bytes, is_text, facts);
      break;
    default:
      break;
  }
  return 0;
}
