// What is known of a text's tokens before it is encoded.
#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "small_tokenizer.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

using nlohmann::json;

// All 256 bytes, in the byte alphabet or as <0x00> to <0xFF>, from id 60 on.
json AllBytes(bool as_alphabet) {
  json vocab;
  for (int byte = 0; byte < 256; ++byte) {
    std::string token = absl::StrFormat("<0x%02X>", byte);
    if (as_alphabet) {
      token.clear();
      AppendByteAlphabet(std::string(1, static_cast<char>(byte)), token);
    }
    // Some are in the small vocabulary already.
    if (!SmallTokenizerJson()["model"]["vocab"].contains(token)) vocab[token] = 60 + byte;
  }
  return vocab;
}

// `patch`, merged into a tokenizer that has tokens for all texts.
json Complete(bool byte_level, const json& patch = json::object()) {
  json file = {{"model", {{"vocab", AllBytes(byte_level)}, {"byte_fallback", !byte_level}}}};
  file["model"]["vocab"]["aaaaaaaaaaaaaaaaaaaa"] = 400;  // of 20 bytes
  if (byte_level) file["pre_tokenizer"] = {{"type", "ByteLevel"}, {"use_regex", false}};
  file.merge_patch(patch);
  return file;
}

// An added token, which the vocabulary has, too.
json Added(const std::string& content, const std::vector<std::string>& flags = {}) {
  return {{"model", {{"vocab", {{content, 401}}}}},
          {"added_tokens", {AddedTokenJson(401, content, flags)}}};
}

json Normalizer(json normalizer) { return {{"normalizer", std::move(normalizer)}}; }
json Replace(json pattern, const char* content) {
  return Normalizer({{"type", "Replace"}, {"pattern", std::move(pattern)}, {"content", content}});
}

TEST(MaxTokenBytesTest, IsTheLongestTokensUnlessSomeTextMayVanish) {
  const json blank = {{"type", "Metaspace"}, {"replacement", "▁"}};
  const json cut = {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Removed"}};
  const struct {
    json patch;
    std::optional<size_t> bytes;
  } cases[] = {
      {Complete(true), 20},
      {Complete(false), 20},
      {Complete(false, {{"pre_tokenizer", blank}}), 20},
      {Complete(true, Added(std::string(30, 'x'))), 30},
      {Complete(true, Normalizer({{"type", "NFC"}})), 160},
      {Complete(true, Normalizer({{"type", "NFKD"}})), 80},
      {Complete(true, Normalizer({{"type", "Lowercase"}})), 80},
      {Complete(false, Replace({{"String", " "}}, "▁")), 20},
      {Complete(true, Replace({{"String", "abc"}}, "xy")), 40},
      // Texts that leave nothing behind.
      {Complete(true, Replace({{"String", "abc"}}, "")), std::nullopt},
      {Complete(true, Replace({{"Regex", " +"}}, "a long replacement")), std::nullopt},
      {Complete(true, Normalizer({{"type", "Strip"}})), std::nullopt},
      {Complete(false, {{"pre_tokenizer", cut}}), std::nullopt},
      {Complete(false, {{"pre_tokenizer", {{"type", "Whitespace"}}}}), std::nullopt},
      {Complete(false, {{"pre_tokenizer", {{"type", "WhitespaceSplit"}}}}), std::nullopt},
      {Complete(true, Added("<x>", {"rstrip"})), std::nullopt},
      {Complete(true, Added("<x>", {"lstrip"})), std::nullopt},
      {Complete(true,
                {{"post_processor", {{"type", "TemplateProcessing"}, {"single", json::array()}}}}),
       std::nullopt},
      // Characters without a token are left out, or share one.
      {nullptr, std::nullopt},
      {Complete(false, {{"model", {{"byte_fallback", false}}}}), std::nullopt},
      {Complete(false, {{"model", {{"vocab", {{"<0x7F>", nullptr}}}}}}), std::nullopt},
      {Complete(true, {{"model", {{"vocab", {{"!", nullptr}}}}}}), std::nullopt},
      {Complete(true, {{"pre_tokenizer", blank}}), std::nullopt},
      {Complete(true, {{"model", {{"continuing_subword_prefix", "##"}}}}), std::nullopt},
  };
  for (const auto& c : cases) {
    const auto tokenizer = MakeTokenizer(c.patch);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    json shown = c.patch;
    if (shown.is_object()) shown["model"]["vocab"] = "...";
    EXPECT_EQ((*tokenizer)->max_token_bytes(), c.bytes) << shown;
  }
}

// Whatever the text, it has not fewer tokens.
TEST(MaxTokenBytesTest, IsABound) {
  constexpr uint32_t kSeed = 5;
  std::mt19937 random(kSeed);
  // Of few characters, among them those that a normal form or small letters make shorter: the
  // Kelvin sign, a bold letter and marks that join it, the parts of a Korean syllable.
  const std::vector<char32_t> characters = {'a',   'a',   'A',    ' ',    0x212A, 0x1D41A,
                                            0x308, 0x304, 0x1100, 0x1161, 0x11A8, 0xFF21,
                                            0x3B1, 0x313, 0x300,  0x345,  0x1F600};
  for (const char* form : {"NFC", "NFD", "NFKC", "NFKD", "Lowercase"}) {
    for (const bool byte_level : {true, false}) {
      json patch = Complete(byte_level, Normalizer({{"type", form}}));
      // Short tokens: the bound is mostly what the normalizer may do.
      json& vocab = patch["model"]["vocab"];
      vocab.erase("aaaaaaaaaaaaaaaaaaaa");
      if (byte_level) {
        for (const char* token : {"<unk>", "<0xC3>", "<0xA8>", "▁"}) vocab[token] = nullptr;
      }
      const auto tokenizer = MakeTokenizer(patch);
      ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
      ASSERT_TRUE((*tokenizer)->max_token_bytes().has_value());
      const size_t bound = *(*tokenizer)->max_token_bytes();
      for (int i = 0; i < 2000; ++i) {
        std::string text;
        for (size_t n = random() % 12; n > 0; --n) {
          AppendUtf8(characters[random() % characters.size()], text);
        }
        const auto ids = (*tokenizer)->Encode(text, {.add_special_tokens = false});
        ASSERT_TRUE(ids.ok()) << ids.status();
        ASSERT_LE(text.size(), ids->size() * bound) << text << ", " << form << ", seed " << kSeed;
      }
    }
  }
}

}  // namespace
}  // namespace sluice::tokenizer
