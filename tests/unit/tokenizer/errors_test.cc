// Files that are malformed, hostile or ask for something unsupported are refused in a sentence that
// names the field.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "small_tokenizer.h"

namespace sluice::tokenizer {
namespace {

using nlohmann::json;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;

struct Case {
  json patch;
  absl::StatusCode code;
  std::string says;
};

json Nested(const char* members, json innermost, int depth) {
  for (int i = 0; i < depth; ++i) {
    innermost = {{"type", "Sequence"}, {members, json::array({innermost})}};
  }
  return innermost;
}

json Split(json pattern, const char* behavior = "Isolated") {
  return {{"pre_tokenizer", {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}}}};
}

json Template(json part) {
  return {{"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {part}},
            {"special_tokens", {{"s", {{"ids", {41}}}}, {"negative", {{"ids", {-1}}}}}}}}};
}

json Added(std::vector<json> tokens) { return {{"added_tokens", tokens}}; }

TEST(ErrorsTest, NameTheField) {
  const json no_id = {{"content", "x"}};
  const json strip_all = {{"normalizer", {{"type", "Strip"}}},
                          {"added_tokens", {AddedTokenJson(41, "  ", {"normalized"})}}};
  const std::vector<Case> cases = {
      {{{"version", "2.0"}}, kUnimplemented, "version: '2.0'"},
      {{{"version", 1}}, kInvalid, "version: must be a string"},
      // Components.
      {{{"model", {{"type", "Unigram"}}}}, kUnimplemented, "model: the model Unigram"},
      {{{"model", {{"type", "WordPiece"}}}}, kUnimplemented, "model: the model WordPiece"},
      {{{"model", nullptr}}, kInvalid, "has no 'model'"},
      {{{"model", 7}}, kInvalid, "model: must be an object"},
      {{{"normalizer", {{"type", "Precompiled"}}}},
       kUnimplemented,
       "normalizer: the normalizer Precompiled"},
      {{{"normalizer", {{"type", "BertNormalizer"}}}}, kUnimplemented, "BertNormalizer"},
      {{{"normalizer", json::object()}}, kInvalid, "normalizer: has no 'type'"},
      {{{"normalizer", "NFC"}}, kInvalid, "normalizer: must be an object"},
      {{{"normalizer", {{"type", "Sequence"}}}}, kInvalid, "normalizer: has no 'normalizers'"},
      {{{"normalizer",
         {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Nmt"}}}}}}},
       kUnimplemented,
       "normalizer.normalizers[1]: the normalizer Nmt"},
      {{{"normalizer", Nested("normalizers", {{"type", "NFC"}}, 9)}}, kInvalid, "nested too deep"},
      {{{"normalizer", {{"type", "Prepend"}, {"prepend", 1}}}},
       kInvalid,
       "normalizer.prepend: must be a string"},
      {{{"normalizer", {{"type", "Replace"}, {"pattern", {{"String", "a"}}}}}},
       kInvalid,
       "has no 'content'"},
      {{{"normalizer", {{"type", "Strip"}, {"strip_left", 1}}}},
       kInvalid,
       "strip_left: must be true or false"},
      {{{"pre_tokenizer", {{"type", "BertPreTokenizer"}}}},
       kUnimplemented,
       "the pre-tokenizer BertPreTokenizer"},
      {{{"pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "ab"}}}},
       kInvalid,
       "replacement: must be one character"},
      {{{"pre_tokenizer", {{"type", "Metaspace"}, {"prepend_scheme", "last"}}}},
       kInvalid,
       "prepend_scheme: 'last'"},
      {{{"pre_tokenizer",
         {{"type", "Metaspace"}, {"prepend_scheme", "first"}, {"add_prefix_space", false}}}},
       kInvalid,
       "prepend_scheme: contradicts add_prefix_space"},
      {Split({{"Regex", "(a"}}), kInvalid, "pre_tokenizer.pattern.Regex: not a regular expression"},
      {Split({{"Regex", std::string(70'000, 'a')}}), kInvalid, "longer than"},
      {Split({{"Regex", std::string(5'000, '(') + std::string(5'000, ')')}}), kInvalid,
       "not a regular expression"},
      {Split({{"Regex", "a"}, {"String", "a"}}), kInvalid, "either 'String' or 'Regex'"},
      {Split("a"), kInvalid, "either 'String' or 'Regex'"},
      {Split({{"String", "a"}}, "Lost"), kInvalid, "behavior: 'Lost' is no behavior"},
      {{{"decoder", {{"type", "WordPiece"}}}}, kUnimplemented, "decoder: the decoder WordPiece"},
      {{{"decoder", {{"type", "Strip"}, {"content", " "}, {"start", -1}, {"stop", 0}}}},
       kInvalid,
       "decoder.start: must be an integer"},
      {{{"decoder", Nested("decoders", {{"type", "Fuse"}}, 9)}}, kInvalid, "nested too deep"},
      // The model.
      {{{"model", {{"vocab", nullptr}}}}, kInvalid, "model: has no 'vocab'"},
      {{{"model", {{"vocab", json::array()}}}}, kInvalid, "model.vocab: must be an object"},
      {{{"model", {{"vocab", {{"a", 2}}}}}},
       kInvalid,
       "model.vocab: 'a' and 'b' have the same id 2"},
      {{{"model", {{"vocab", {{"a", -1}}}}}},
       kInvalid,
       "model.vocab: the id of 'a' must be an integer"},
      {{{"model", {{"vocab", {{"a", 1.5}}}}}}, kInvalid, "the id of 'a'"},
      {{{"model", {{"vocab", {{"a", 2'147'483'647}}}}}}, kInvalid, "the id of 'a'"},
      {{{"model", {{"vocab", {{"a", 18'446'744'073'709'551'615u}}}}}}, kInvalid, "the id of 'a'"},
      {{{"model", {{"merges", nullptr}}}}, kInvalid, "model: has no 'merges'"},
      {{{"model", {{"merges", {"a"}}}}}, kInvalid, "model.merges: element 0 must be two tokens"},
      {{{"model", {{"merges", {"a b c"}}}}}, kInvalid, "element 0 must be two tokens"},
      {{{"model", {{"merges", {json::array({"a"})}}}}}, kInvalid, "element 0 must be two strings"},
      {{{"model", {{"merges", {"a b"}}}}},
       kInvalid,
       "model.merges: element 0 needs the token 'ab'"},
      {{{"model", {{"merges", {"Q b"}}}}}, kInvalid, "needs the token 'Q'"},
      {{{"model", {{"merges", {"a b"}}, {"continuing_subword_prefix", "##"}}}},
       kInvalid,
       "shorter than continuing_subword_prefix"},
      {{{"model", {{"dropout", 0.1}}}}, kUnimplemented, "model.dropout: "},
      {{{"model", {{"dropout", "no"}}}}, kInvalid, "model.dropout: must be a number"},
      {{{"model", {{"byte_fallback", 1}}}}, kInvalid, "model.byte_fallback: must be true or false"},
      // Added tokens.
      {{{"added_tokens", json::object()}}, kInvalid, "added_tokens: must be an array"},
      {Added({no_id}), kInvalid, "added_tokens[0]: has no 'id'"},
      {Added({AddedTokenJson(41, "")}), kInvalid, "added_tokens[0].content: must not be empty"},
      {Added({AddedTokenJson(41, "x~"), AddedTokenJson(42, "x~")}), kInvalid,
       "added_tokens[1]: 'x~' is given twice"},
      {Added({AddedTokenJson(1, "x~")}), kInvalid,
       "added_tokens[0].id: is 1, but 'x~' must have the id 41"},
      {Added({AddedTokenJson(41, "a")}), kInvalid,
       "added_tokens[0].id: is 41, but 'a' must have the id 1"},
      {Added({AddedTokenJson(2'000'000'000, "x~")}), kInvalid,
       "added_tokens[0].id: must be an integer"},
      {strip_all, kUnimplemented, "added_tokens[0]: nothing is left of '  '"},
      // The post-processor.
      {{{"post_processor", {{"type", "BertProcessing"}}}},
       kUnimplemented,
       "the post-processor BertProcessing"},
      {Template({{"SpecialToken", {{"id", "t"}}}}), kInvalid,
       "post_processor.single[0].SpecialToken.id: special_tokens has no 't'"},
      {Template({{"SpecialToken", {{"id", "s"}}}}), kInvalid,
       "special_tokens.s.ids[0]: must be an integer from 0 to 40"},
      {Template({{"SpecialToken", {{"id", "negative"}}}}), kInvalid,
       "special_tokens.negative.ids[0]"},
      {Template({{"Sequence", {{"id", "B"}}}}), kInvalid, "has the sequence A"},
  };
  for (const Case& c : cases) {
    const absl::Status status = MakeTokenizer(c.patch).status();
    EXPECT_EQ(status.code(), c.code) << status << " for " << c.patch.dump().substr(0, 300);
    EXPECT_TRUE(absl::StartsWith(status.message(), "small.json: ")) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), c.says)) << status << "\n  lacks " << c.says;
  }
}

TEST(ErrorsTest, WhatIsNoJsonIsRefused) {
  for (const std::string& text : {std::string(), std::string("{"), std::string("{\"model\": \xff}"),
                                  std::string("\0", 1), std::string(64, '[')}) {
    EXPECT_EQ(Tokenizer::Parse(text, "x.json").status().ToString(),
              "INVALID_ARGUMENT: x.json: is no JSON");
  }
  EXPECT_EQ(Tokenizer::Parse("[]", "x.json").status().ToString(),
            "INVALID_ARGUMENT: x.json: must be an object");
}

TEST(ErrorsTest, FilesThatCannotBeReadAreNamed) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / absl::StrCat("tokenizer_errors-", getpid());
  std::filesystem::create_directories(folder / "folder" / "tokenizer.json");
  EXPECT_EQ(Tokenizer::Load(folder).status().code(), absl::StatusCode::kNotFound);
  const absl::Status is_folder = Tokenizer::Load(folder / "folder").status();
  EXPECT_EQ(is_folder.code(), kInvalid);
  EXPECT_TRUE(absl::StrContains(is_folder.message(), "tokenizer.json")) << is_folder;
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace sluice::tokenizer
