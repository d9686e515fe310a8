#include "api/request_parser.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "api/status_mapping.h"
#include "fake_tokenizer.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sluice::api {
namespace {

using testing::Bytes;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using testing::FakeTokenizer;

constexpr int kVocabSize = 1000;
constexpr int kMaxContext = 64;

template <typename Message>
Message FromText(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

std::string Repeat(const std::string& text, int n) {
  return absl::StrJoin(std::vector<std::string>(n, text), "");
}

// A bias of 1 for each of `n` tokens.
std::string LogitBias(int n) {
  std::string text;
  for (int i = 0; i < n; ++i) absl::StrAppend(&text, "logit_bias { key: ", i, " value: 1 } ");
  return text;
}

// The field that the BadRequest detail names; empty if there is none.
std::string FieldOf(const absl::Status& status) {
  google::rpc::Status details;
  google::rpc::BadRequest bad_request;
  if (!details.ParseFromString(ToGrpcStatus(status).error_details()) ||
      details.details_size() != 1 || !details.details(0).UnpackTo(&bad_request)) {
    return "";
  }
  return bad_request.field_violations(0).field();
}

class RequestParserTest : public ::testing::Test {
 protected:
  RequestParserTest() {
    auto chat_template = tokenizer::ChatTemplate::Parse(
        "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}",
        {});
    EXPECT_TRUE(chat_template.ok()) << chat_template.status();
    chat_template_ = *std::move(chat_template);
    facts_.name = "demo";
    facts_.vocab_size = kVocabSize;
    facts_.max_context = kMaxContext;
    facts_.default_max_tokens = 16;
    facts_.defaults.eos_token_ids = {FakeTokenizer::kEos};
    facts_.tokenizer = &tokenizer_;
    facts_.chat_template = chat_template_.get();
  }

  absl::StatusOr<ParsedRequest> Generate(const std::string& text) const {
    return ParseGenerate(FromText<v1::GenerateRequest>(text), facts_, {"made-up", 42});
  }
  ParsedRequest MustGenerate(const std::string& text) const {
    auto parsed = Generate(text);
    EXPECT_TRUE(parsed.ok()) << text << ": " << parsed.status();
    return parsed.ok() ? *std::move(parsed) : ParsedRequest();
  }

  FakeTokenizer tokenizer_;
  std::unique_ptr<tokenizer::ChatTemplate> chat_template_;
  ModelFacts facts_;
};

TEST_F(RequestParserTest, RefusesWhatIsWrongAndNamesTheField) {
  const struct {
    std::string request;
    std::string field;
  } rows[] = {
      {"", "prompt"},
      {"request_id: '' text: 'a'", "request_id"},
      {"request_id: 'a\\tb' text: 'a'", "request_id"},
      {"request_id: 'caf\\303\\251' text: 'a'", "request_id"},
      {"request_id: '\\177' text: 'a'", "request_id"},
      {absl::StrCat("request_id: '", Repeat("x", 129), "' text: 'a'"), "request_id"},
      {"text: '' add_special_tokens: false", "text"},
      {"text: 'a\\002'", "text"},
      {"text: 'a\\001'", "text"},
      {absl::StrCat("text: '", Repeat("x", 63), "'"), "text"},
      {absl::StrCat("text: '", Repeat("x", 64), "' add_special_tokens: false"), "text"},
      {absl::StrCat("text: '", Repeat("x", 100'000), "'"), "text"},
      {"token_ids {}", "token_ids"},
      {"token_ids { ids: -1 }", "token_ids.ids[0]"},
      {"token_ids { ids: 1000 }", "token_ids.ids[0]"},
      {"token_ids { ids: [1, 2, 2147483647] }", "token_ids.ids[2]"},
      {"token_ids { ids: [1, -2147483648] }", "token_ids.ids[1]"},
      {absl::StrCat("token_ids { ", Repeat("ids: 5 ", 64), "}"), "token_ids"},
      {"chat {}", "chat.messages"},
      {"chat { messages { content: 'a' } }", "chat.messages[0].role"},
      {"chat { messages { role: 'u' } messages {} }", "chat.messages[1].role"},
      {"chat { messages { role: 'u' content: '\\002' } }", "chat"},
      {absl::StrCat("chat { messages { role: 'u' content: '", Repeat("x", 64), "' } }"), "chat"},
      {"text: 'a' sampling { temperature: nan }", "sampling.temperature"},
      {"text: 'a' sampling { temperature: inf }", "sampling.temperature"},
      {"text: 'a' sampling { temperature: -inf }", "sampling.temperature"},
      {"text: 'a' sampling { temperature: -0.1 }", "sampling.temperature"},
      {"text: 'a' sampling { temperature: 100.1 }", "sampling.temperature"},
      {"text: 'a' sampling { top_k: -1 }", "sampling.top_k"},
      {"text: 'a' sampling { top_k: -2147483648 }", "sampling.top_k"},
      {"text: 'a' sampling { top_p: nan }", "sampling.top_p"},
      {"text: 'a' sampling { top_p: inf }", "sampling.top_p"},
      {"text: 'a' sampling { top_p: 0 }", "sampling.top_p"},
      {"text: 'a' sampling { top_p: -0.5 }", "sampling.top_p"},
      {"text: 'a' sampling { top_p: 1.01 }", "sampling.top_p"},
      {"text: 'a' sampling { min_p: nan }", "sampling.min_p"},
      {"text: 'a' sampling { min_p: -inf }", "sampling.min_p"},
      {"text: 'a' sampling { min_p: -0.01 }", "sampling.min_p"},
      {"text: 'a' sampling { min_p: 1.5 }", "sampling.min_p"},
      {"text: 'a' stopping { max_tokens: 0 }", "stopping.max_tokens"},
      {"text: 'a' stopping { max_tokens: -1 }", "stopping.max_tokens"},
      {"text: 'a' stopping { max_tokens: -2147483648 }", "stopping.max_tokens"},
      {"text: 'a' stopping { max_tokens: 63 }", "stopping.max_tokens"},
      {"text: 'a' stopping { max_tokens: 2147483647 }", "stopping.max_tokens"},
      {"text: 'a' stopping { stop_token_ids: -1 }", "stopping.stop_token_ids[0]"},
      {"text: 'a' stopping { stop_token_ids: [1, 1000] }", "stopping.stop_token_ids[1]"},
      {absl::StrCat("text: 'a' stopping { ", Repeat("stop_token_ids: 1 ", 65), "}"),
       "stopping.stop_token_ids"},
      {"text: 'a' stopping { stop_strings: '' }", "stopping.stop_strings[0]"},
      {"text: 'a' stopping { stop_strings: ['a', ''] }", "stopping.stop_strings[1]"},
      {absl::StrCat("text: 'a' stopping { stop_strings: '", Repeat("x", 257), "' }"),
       "stopping.stop_strings[0]"},
      {absl::StrCat("text: 'a' stopping { ", Repeat("stop_strings: 'x' ", 17), "}"),
       "stopping.stop_strings"},
      {"text: 'a' response { logprobs: -1 }", "response.logprobs"},
      {"text: 'a' response { logprobs: 21 }", "response.logprobs"},
      {"text: 'a' response { logprobs: 2147483647 }", "response.logprobs"},
      {"text: 'a' response { prompt_logprobs: -1 }", "response.prompt_logprobs"},
      {"text: 'a' response { prompt_logprobs: 21 }", "response.prompt_logprobs"},
      {"text: 'a' sampling { typical_p: nan }", "sampling.typical_p"},
      {"text: 'a' sampling { typical_p: 0 }", "sampling.typical_p"},
      {"text: 'a' sampling { typical_p: 1.01 }", "sampling.typical_p"},
      {"text: 'a' sampling { repetition_penalty: nan }", "sampling.repetition_penalty"},
      {"text: 'a' sampling { repetition_penalty: 0 }", "sampling.repetition_penalty"},
      {"text: 'a' sampling { repetition_penalty: -1 }", "sampling.repetition_penalty"},
      {"text: 'a' sampling { repetition_penalty: 10.1 }", "sampling.repetition_penalty"},
      {"text: 'a' sampling { presence_penalty: nan }", "sampling.presence_penalty"},
      {"text: 'a' sampling { presence_penalty: -2.1 }", "sampling.presence_penalty"},
      {"text: 'a' sampling { presence_penalty: 2.1 }", "sampling.presence_penalty"},
      {"text: 'a' sampling { frequency_penalty: nan }", "sampling.frequency_penalty"},
      {"text: 'a' sampling { frequency_penalty: -inf }", "sampling.frequency_penalty"},
      {"text: 'a' sampling { frequency_penalty: 2.1 }", "sampling.frequency_penalty"},
      {"text: 'a' sampling { logit_bias { key: -1 value: 1 } }", "sampling.logit_bias[-1]"},
      {"text: 'a' sampling { logit_bias { key: 1000 value: 1 } }", "sampling.logit_bias[1000]"},
      {"text: 'a' sampling { logit_bias { key: 7 value: nan } }", "sampling.logit_bias[7]"},
      {"text: 'a' sampling { logit_bias { key: 7 value: -100.1 } }", "sampling.logit_bias[7]"},
      {"text: 'a' sampling { logit_bias { key: 7 value: inf } }", "sampling.logit_bias[7]"},
      // The lowest id that is wrong.
      {"text: 'a' sampling { logit_bias { key: 9 value: 101 } logit_bias { key: 8 value: 101 } "
       "logit_bias { key: 7 value: 1 } }",
       "sampling.logit_bias[8]"},
      {absl::StrCat("text: 'a' sampling { ", LogitBias(1025), "}"), "sampling.logit_bias"},
      {"text: 'a' stopping { min_tokens: -1 }", "stopping.min_tokens"},
      {"text: 'a' stopping { min_tokens: 6 max_tokens: 5 }", "stopping.min_tokens"},
      {"text: 'a' stopping { min_tokens: 17 }", "stopping.min_tokens"},
      {"text: 'a' num_choices: 0", "num_choices"},
      {"text: 'a' num_choices: -1", "num_choices"},
      {"text: 'a' num_choices: 17", "num_choices"},
      {"text: 'a' priority: -101", "priority"},
      {"text: 'a' priority: 101", "priority"},
      {absl::StrCat("text: 'a' cache_salt: '", Repeat("x", 129), "'"), "cache_salt"},
  };
  for (const auto& row : rows) {
    const absl::Status status = Generate(row.request).status();
    const std::string shown = row.request.substr(0, 80);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << shown << ": " << status;
    EXPECT_EQ(FieldOf(status), row.field) << shown;
    EXPECT_TRUE(absl::StartsWith(status.message(), absl::StrCat(row.field, ": "))) << status;
  }
}

TEST_F(RequestParserTest, AcceptsTheBoundsOfEveryRange) {
  const std::string rows[] = {
      "text: ''",
      "text: '' add_special_tokens: true",
      "text: 'a' model: 'demo'",
      "request_id: '~ a !' text: 'a'",
      absl::StrCat("request_id: '", Repeat("x", 128), "' text: 'a'"),
      absl::StrCat("text: '", Repeat("x", 62), "'"),
      absl::StrCat("text: '", Repeat("x", 63), "' add_special_tokens: false"),
      "token_ids { ids: [0, 999] }",
      absl::StrCat("token_ids { ", Repeat("ids: 5 ", 63), "}"),
      "chat { messages { role: 'u' } }",
      "text: 'a' sampling { temperature: 0 }",
      "text: 'a' sampling { temperature: -0.0 }",
      "text: 'a' sampling { temperature: 1e-45 }",
      "text: 'a' sampling { temperature: 100 }",
      "text: 'a' sampling { top_k: 0 }",
      "text: 'a' sampling { top_k: 2147483647 }",
      "text: 'a' sampling { top_p: 1e-45 }",
      "text: 'a' sampling { top_p: 1 }",
      "text: 'a' sampling { min_p: 0 }",
      "text: 'a' sampling { min_p: 1 }",
      "text: 'a' sampling { seed: 0 }",
      "text: 'a' sampling { seed: 18446744073709551615 }",
      "text: 'a' stopping { max_tokens: 1 }",
      "text: 'a' stopping { max_tokens: 62 }",
      "text: 'a' stopping { stop_token_ids: [0, 999] }",
      absl::StrCat("text: 'a' stopping { ", Repeat("stop_token_ids: 1 ", 64), "}"),
      absl::StrCat("text: 'a' stopping { stop_strings: '", Repeat("x", 256), "' }"),
      absl::StrCat("text: 'a' stopping { ", Repeat("stop_strings: 'x' ", 16), "}"),
      "text: 'a' response { logprobs: 0 prompt_logprobs: 0 }",
      "text: 'a' response { logprobs: 20 prompt_logprobs: 20 }",
      "text: 'a' sampling { typical_p: 1e-45 }",
      "text: 'a' sampling { typical_p: 1 }",
      "text: 'a' sampling { repetition_penalty: 1e-45 }",
      "text: 'a' sampling { repetition_penalty: 10 }",
      "text: 'a' sampling { presence_penalty: -2 frequency_penalty: -2 }",
      "text: 'a' sampling { presence_penalty: 2 frequency_penalty: 2 }",
      "text: 'a' sampling { logit_bias { key: 0 value: -100 } logit_bias { key: 999 value: 100 } }",
      "text: 'a' sampling { logit_bias { key: 5 } }",
      "text: 'a' stopping { min_tokens: 0 max_tokens: 5 }",
      "text: 'a' stopping { min_tokens: 5 max_tokens: 5 }",
      "text: 'a' stopping { min_tokens: 16 }",
      "text: 'a' num_choices: 1",
      "text: 'a' num_choices: 16",
      "text: 'a' priority: -100",
      "text: 'a' priority: 100",
      "text: 'a' cache_salt: ''",
      absl::StrCat("text: 'a' cache_salt: '", Repeat("\\377", 128), "'"),
  };
  for (const std::string& row : rows) {
    EXPECT_TRUE(Generate(row).ok()) << row.substr(0, 80) << ": " << Generate(row).status();
  }
}

TEST_F(RequestParserTest, AnotherModelIsNotFound) {
  for (const char* name : {"other", "", "Demo", "demo "}) {
    const absl::Status status = Generate(absl::StrCat("text: 'a' model: '", name, "'")).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << name;
    EXPECT_TRUE(absl::StartsWith(status.message(), "model: ")) << status;
  }
}

TEST_F(RequestParserTest, AbsentFieldsGetTheirDefaults) {
  const ParsedRequest parsed = MustGenerate("text: 'ab'");
  const scheduler::Request& request = parsed.request;
  EXPECT_EQ(request.id, "made-up");
  EXPECT_THAT(request.prompt, ElementsAre(FakeTokenizer::kBos, 'a', 'b'));
  EXPECT_EQ(request.sampling.temperature, 0);
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_EQ(request.sampling.top_p, 1);
  EXPECT_EQ(request.sampling.min_p, 0);
  EXPECT_EQ(request.sampling.seed, 42u);
  EXPECT_EQ(request.max_tokens, 16);
  EXPECT_THAT(request.stop_token_ids, ElementsAre(FakeTokenizer::kEos));
  EXPECT_EQ(request.logprobs, std::nullopt);
  EXPECT_EQ(request.prompt_logprobs, std::nullopt);
  EXPECT_TRUE(request.sampling.logit_bias.empty());
  EXPECT_EQ(request.sampling.typical_p, 1);
  EXPECT_EQ(request.sampling.repetition_penalty, 1);
  EXPECT_EQ(request.sampling.presence_penalty, 0);
  EXPECT_EQ(request.sampling.frequency_penalty, 0);
  EXPECT_EQ(request.num_choices, 1);
  EXPECT_EQ(request.min_tokens, 0);
  EXPECT_EQ(request.priority, 0);
  EXPECT_FALSE(request.bypass_prefix_cache);
  EXPECT_EQ(request.cache_salt, "");
  EXPECT_TRUE(parsed.stop_strings.empty());
  EXPECT_TRUE(parsed.skip_special_tokens);
  EXPECT_FALSE(parsed.include_stop);
  EXPECT_EQ(parsed.echo, "");
}

TEST_F(RequestParserTest, GivenFieldsAreTaken) {
  const ParsedRequest parsed = MustGenerate(
      "request_id: 'r' token_ids { ids: [7, 8] } "
      "sampling { temperature: 0.5 top_k: 3 top_p: 0.25 min_p: 0.125 seed: 9 typical_p: 0.75 "
      "repetition_penalty: 1.5 presence_penalty: -1 frequency_penalty: 0.25 "
      "logit_bias { key: 30 value: 2 } logit_bias { key: 4 value: -50 } } "
      "stopping { max_tokens: 5 stop_token_ids: [9, 3, 9] stop_strings: ['x', 'y'] "
      "ignore_eos: true min_tokens: 2 include_stop: true } "
      "response { logprobs: 2 prompt_logprobs: 1 skip_special_tokens: false } "
      "num_choices: 3 priority: -7 bypass_prefix_cache: true cache_salt: 'salt\\000'");
  const scheduler::Request& request = parsed.request;
  EXPECT_EQ(request.id, "r");
  EXPECT_THAT(request.prompt, ElementsAre(7, 8));
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_k, 3);
  EXPECT_EQ(request.sampling.top_p, 0.25f);
  EXPECT_EQ(request.sampling.min_p, 0.125f);
  EXPECT_EQ(request.sampling.seed, 9u);
  EXPECT_EQ(request.max_tokens, 5);
  EXPECT_THAT(request.stop_token_ids, ElementsAre(3, 9));
  EXPECT_EQ(request.logprobs, 2);
  EXPECT_EQ(request.prompt_logprobs, 1);
  EXPECT_THAT(request.sampling.logit_bias, ElementsAre(std::pair(4, -50.0f), std::pair(30, 2.0f)));
  EXPECT_EQ(request.sampling.typical_p, 0.75f);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(request.sampling.presence_penalty, -1);
  EXPECT_EQ(request.sampling.frequency_penalty, 0.25f);
  EXPECT_EQ(request.num_choices, 3);
  EXPECT_EQ(request.min_tokens, 2);
  EXPECT_EQ(request.priority, -7);
  EXPECT_TRUE(request.bypass_prefix_cache);
  EXPECT_EQ(request.cache_salt, std::string("salt\0", 5));
  EXPECT_THAT(parsed.stop_strings, ElementsAre("x", "y"));
  EXPECT_FALSE(parsed.skip_special_tokens);
  EXPECT_TRUE(parsed.include_stop);
}

TEST_F(RequestParserTest, EchoIsTheTextThatThePromptCameFrom) {
  const auto echo = [&](const std::string& prompt, const std::string& options = "") {
    return MustGenerate(absl::StrCat(prompt, " response { echo: true ", options, "}")).echo;
  };
  EXPECT_EQ(echo("text: 'a b'"), "a b");
  EXPECT_EQ(echo("token_ids { ids: [256, 104, 900, 105] }"), "hi");
  EXPECT_EQ(echo("token_ids { ids: [256, 104, 105] }", "skip_special_tokens: false"), "<bos>hi");
  EXPECT_EQ(echo("chat { messages { role: 'u' content: 'hi' } }"), "<u>hi<assistant>");
  EXPECT_EQ(MustGenerate("text: 'a' response { echo: false }").echo, "");
}

// Knows that a token stands for at most four bytes, and counts how often it is asked for tokens.
class BoundedTokenizer final : public tokenizer::Tokenizer {
 public:
  absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text,
                                              EncodeOptions) const override {
    ++num_texts;
    return std::vector<TokenId>((text.size() + 3) / 4, 'a');
  }
  std::string Decode(absl::Span<const TokenId>, DecodeOptions) const override { return ""; }
  std::optional<size_t> max_token_bytes() const override { return 4; }
  int vocab_size() const override { return 256; }

  mutable int num_texts = 0;
};

TEST_F(RequestParserTest, ATextThatIsTooLongHoweverItIsEncodedIsNotEncoded) {
  BoundedTokenizer tokenizer;
  facts_.tokenizer = &tokenizer;
  const auto text = [](size_t size) { return absl::StrCat("'", std::string(size, 'x'), "'"); };
  // A context of 64 tokens, one of which is the answer's.
  EXPECT_TRUE(Generate("text: " + text(63 * 4)).ok());
  EXPECT_EQ(tokenizer.num_texts, 1);
  const absl::Status status = Generate("text: " + text(63 * 4 + 1)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "text: makes a prompt of at least 64 tokens; prompt and answer together may have 64");
  EXPECT_EQ(FieldOf(status), "text");
  // The template writes 14 bytes more.
  const std::string chat = "chat { messages { role: 'u' content: ";
  EXPECT_TRUE(Generate(chat + text(63 * 4 - 14) + "} }").ok());
  EXPECT_EQ(FieldOf(Generate(chat + text(63 * 4 - 13) + "} }").status()), "chat");
  EXPECT_EQ(tokenizer.num_texts, 2);
  // Who only wants to know its tokens may.
  EXPECT_TRUE(RunTokenize(FromText<v1::TokenizeRequest>("text: " + text(1000)), facts_).ok());
}

TEST_F(RequestParserTest, MinTokensMustLeaveATokenToDraw) {
  facts_.vocab_size = 3;
  const std::string request = "token_ids { ids: 1 } stopping { max_tokens: 2 min_tokens: 1 ";
  EXPECT_EQ(FieldOf(Generate(request + "stop_token_ids: [2, 0, 1] }").status()),
            "stopping.min_tokens");
  EXPECT_TRUE(Generate(request + "stop_token_ids: [2, 0] }").ok());
}

TEST_F(RequestParserTest, GenerationConfigCountsOnlyIfItSamples) {
  facts_.defaults.temperature = 0.7f;
  facts_.defaults.top_k = 20;
  facts_.defaults.top_p = 0.8f;
  facts_.defaults.min_p = 0.1f;
  facts_.defaults.typical_p = 0.6f;
  facts_.defaults.repetition_penalty = 1.1f;
  EXPECT_EQ(MustGenerate("text: 'a'").request.sampling.temperature, 0);
  EXPECT_EQ(MustGenerate("text: 'a'").request.sampling.top_k, 0);
  EXPECT_EQ(MustGenerate("text: 'a'").request.sampling.typical_p, 1);
  // That is no filter: it counts for greedy answers, too.
  EXPECT_EQ(MustGenerate("text: 'a'").request.sampling.repetition_penalty, 1.1f);
  facts_.defaults.do_sample = true;
  const auto sampling = MustGenerate("text: 'a' sampling { top_p: 0.5 }").request.sampling;
  EXPECT_EQ(sampling.temperature, 0.7f);
  EXPECT_EQ(sampling.top_k, 20);
  EXPECT_EQ(sampling.top_p, 0.5f);
  EXPECT_EQ(sampling.min_p, 0.1f);
  EXPECT_EQ(sampling.typical_p, 0.6f);
  facts_.defaults.repetition_penalty = 50;
  EXPECT_EQ(MustGenerate("text: 'a'").request.sampling.repetition_penalty, 10);
  EXPECT_EQ(MustGenerate("text: 'a' sampling { repetition_penalty: 1 }")
                .request.sampling.repetition_penalty,
            1);
  // Zero means zero.
  EXPECT_EQ(MustGenerate("text: 'a' sampling { temperature: 0 }").request.sampling.temperature, 0);
}

TEST_F(RequestParserTest, TheDefaultOfMaxTokensIsCutToTheContext) {
  EXPECT_EQ(MustGenerate(absl::StrCat("text: '", Repeat("x", 60), "'")).request.max_tokens, 3);
  facts_.defaults.max_new_tokens = 30;
  EXPECT_EQ(MustGenerate("text: 'a'").request.max_tokens, 30);
  facts_.defaults.max_new_tokens = 5000;
  EXPECT_EQ(MustGenerate("text: 'a'").request.max_tokens, 62);
}

TEST_F(RequestParserTest, ChatIsRenderedAndEncodedWithoutSpecialTokens) {
  const std::string messages = "messages { role: 'u' content: 'hi' }";
  EXPECT_THAT(MustGenerate(absl::StrCat("chat {", messages, "}")).request.prompt,
              ElementsAreArray(Bytes("<u>hi<assistant>")));
  EXPECT_THAT(MustGenerate(absl::StrCat("add_special_tokens: true chat {", messages,
                                        " add_generation_prompt: false }"))
                  .request.prompt,
              ElementsAreArray(Bytes("<u>hi")));
}

TEST_F(RequestParserTest, ChatWithoutATemplateIsAFailedPrecondition) {
  facts_.chat_template = nullptr;
  facts_.chat_unavailable_reason = "line 3, column 7: no such filter";
  for (const char* request : {"chat { messages { role: 'u' } }", "chat {}"}) {
    const absl::Status status = Generate(request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(absl::StrContains(status.message(), "line 3, column 7")) << status;
  }
  EXPECT_TRUE(Generate("text: 'a'").ok());
}

TEST_F(RequestParserTest, LogprobsNeverAskForMoreTokensThanThereAre) {
  facts_.vocab_size = 5;
  EXPECT_EQ(MustGenerate("token_ids { ids: 1 } response { logprobs: 20 }").request.logprobs, 5);
}

TEST_F(RequestParserTest, TokenizeGivesIdsAndTheRenderedPrompt) {
  const auto run = [&](const std::string& text) {
    return RunTokenize(FromText<v1::TokenizeRequest>(text), facts_);
  };
  EXPECT_THAT(run("text: 'ab'")->token_ids(), ElementsAre(FakeTokenizer::kBos, 'a', 'b'));
  EXPECT_THAT(run("text: 'ab' add_special_tokens: false")->token_ids(), ElementsAre('a', 'b'));
  EXPECT_EQ(run("text: 'ab'")->rendered_prompt(), "");
  EXPECT_EQ(run("text: 'ab'")->pieces_size(), 0);
  EXPECT_THAT(run("text: 'a\\303\\244' pieces: true")->pieces(),
              ElementsAre("<bos>", "a", "\uFFFD", "\uFFFD"));
  const auto chat = run("chat { messages { role: 'u' content: 'hi' } }");
  EXPECT_EQ(chat->rendered_prompt(), "<u>hi<assistant>");
  EXPECT_THAT(chat->token_ids(), ElementsAreArray(Bytes("<u>hi<assistant>")));
  // Longer than the context: nothing is generated, so that does not matter.
  EXPECT_EQ(run(absl::StrCat("text: '", Repeat("x", 500), "'"))->token_ids_size(), 501);
  EXPECT_EQ(FieldOf(run("").status()), "input");
  EXPECT_EQ(FieldOf(run("text: '\\002'").status()), "text");
  EXPECT_EQ(FieldOf(run("chat {}").status()), "chat.messages");
  EXPECT_EQ(run("text: 'a' model: 'x'").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(RequestParserTest, DetokenizeGivesTextAndPassesOverIdsWithoutToken) {
  const auto run = [&](const std::string& text) {
    return RunDetokenize(FromText<v1::DetokenizeRequest>(text), facts_);
  };
  EXPECT_EQ(run("token_ids: [256, 104, 700, 105]")->text(), "hi");
  EXPECT_EQ(run("token_ids: [256, 104] skip_special_tokens: false")->text(), "<bos>h");
  EXPECT_EQ(run("token_ids: 195")->text(), "\uFFFD");
  EXPECT_EQ(run("")->text(), "");
  EXPECT_EQ(FieldOf(run("token_ids: [1, 1000]").status()), "token_ids[1]");
  EXPECT_EQ(FieldOf(run("token_ids: -1").status()), "token_ids[0]");
  EXPECT_EQ(run("model: 'x'").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace sluice::api
