// Decoding, all at once and as tokens come.
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "small_tokenizer.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

using nlohmann::json;
using Ids = std::vector<TokenId>;

json Sequence(std::vector<json> decoders) { return {{"type", "Sequence"}, {"decoders", decoders}}; }
json Replace(json pattern, const char* content) {
  return {{"type", "Replace"}, {"pattern", std::move(pattern)}, {"content", content}};
}
json Strip(const char* content, int start, int stop) {
  return {{"type", "Strip"}, {"content", content}, {"start", start}, {"stop", stop}};
}
json Typed(const char* type) { return {{"type", type}}; }

// Tokens that the decoders below look at, from id 41 on.
json TokensOfAllKinds() {
  json vocab;
  int id = 41;
  for (const char* token : {"▁a", "a▁", "▁▁", "<0xE2>", "<0x86>", "<0x92>", "<0x41>", "<0xFF>",
                            "Ġx", "âĨĴ", "âĨ", "Ĵ", "Ã", "aab", "~~", "  "}) {
    vocab[token] = id++;
  }
  return vocab;
}

std::vector<json> Decoders() {
  const json blank = Replace({{"String", "▁"}}, " ");
  return {
      nullptr,
      Sequence({}),
      {{"type", "ByteLevel"}},
      {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}},
      {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "never"}},
      Sequence({blank, Typed("ByteFallback"), Typed("Fuse"), Strip(" ", 1, 0)}),
      Sequence({blank, Typed("ByteFallback"), Strip(" ", 1, 1)}),
      Sequence({Typed("ByteFallback"), Typed("Fuse"), Strip("▁", 2, 3), blank}),
      Sequence({Typed("Fuse"), Replace({{"String", "aab"}}, "<aab>"), Strip("a", 1, 2)}),
      Sequence({Typed("Fuse"), Replace({{"Regex", "a+|(?<=b)c"}}, "A")}),
      Sequence({Typed("Fuse"), Typed("ByteFallback")}),
      Sequence({Typed("ByteFallback"), Typed("ByteLevel"), Strip("x", 1, 1)}),
      Sequence({Typed("Fuse"), Typed("ByteLevel")}),
  };
}

TEST(DetokenizerTest, PiecesMakeUpTheWholeAndAreNeverHalfACharacter) {
  constexpr uint32_t kSeed = 7;
  std::mt19937 random(kSeed);
  for (const json& decoder : Decoders()) {
    const auto tokenizer =
        MakeTokenizer({{"decoder", decoder},
                       {"model", {{"vocab", TokensOfAllKinds()}}},
                       {"added_tokens", {AddedTokenJson(57, "<|end|>", {"special"})}}});
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (int i = 0; i < 2'000; ++i) {
      Ids ids(random() % 12);
      // Mostly the tokens that decoders look at.
      for (TokenId& id : ids)
        id = static_cast<TokenId>(random() % 4 == 0 ? random() % 41 : 39 + random() % 20);
      const Tokenizer::DecodeOptions options{.skip_special_tokens = i % 2 == 0};
      IncrementalDetokenizer detokenizer(**tokenizer, options);
      std::string joined;
      for (size_t k = 0; k < ids.size(); ++k) {
        const std::string piece = detokenizer.Append(ids[k]);
        ASSERT_TRUE(IsValidUtf8(piece));
        joined += piece;
      }
      joined += detokenizer.Flush();
      ASSERT_EQ(joined, (*tokenizer)->Decode(ids, options))
          << decoder << ", ids " << absl::StrJoin(ids, " ") << ", seed " << kSeed;
    }
  }
}

// The text that both begin with, in whole characters.
size_t CommonBytes(const std::string& a, const std::string& b) {
  size_t same = 0;
  while (same < a.size() && same < b.size()) {
    const size_t length = Utf8Length(a[same]);
    if (a.compare(same, length, b, same, length) != 0) break;
    same += length;
  }
  return same;
}

TEST(DetokenizerTest, AnAnswerGoesOnWhereItsPromptEnds) {
  constexpr uint32_t kSeed = 8;
  std::mt19937 random(kSeed);
  for (const json& decoder : Decoders()) {
    const auto tokenizer =
        MakeTokenizer({{"decoder", decoder},
                       {"model", {{"vocab", TokensOfAllKinds()}}},
                       {"added_tokens", {AddedTokenJson(57, "<|end|>", {"special"})}}});
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (int i = 0; i < 3'000; ++i) {
      Ids ids(random() % 40);
      // Mostly the tokens that decoders look at, or long runs of few of them.
      const auto first = static_cast<TokenId>(39 + random() % 18);
      for (TokenId& id : ids) {
        id = static_cast<TokenId>(i % 3 == 0          ? first + random() % 2
                                  : random() % 8 == 0 ? random() % 41
                                                      : 39 + random() % 20);
      }
      const size_t cut = random() % (ids.size() + 1);
      const auto prompt = absl::MakeConstSpan(ids).first(cut);
      const Tokenizer::DecodeOptions options{.skip_special_tokens = i % 2 == 0};
      const DecodeContext context = ContextOf(**tokenizer, prompt, options);
      IncrementalDetokenizer detokenizer(**tokenizer, options, context);
      std::string answer;
      for (const TokenId id : absl::MakeConstSpan(ids).subspan(cut)) {
        answer += detokenizer.Append(id);
        ASSERT_TRUE(IsValidUtf8(answer));
      }
      answer += detokenizer.Flush();
      const std::string whole = (*tokenizer)->Decode(ids, options);
      std::string echo = (*tokenizer)->Decode(prompt, options);
      const std::string where =
          absl::StrCat(decoder.dump(), ", ids ", absl::StrJoin(prompt, " "), " | ",
                       absl::StrJoin(absl::MakeConstSpan(ids).subspan(cut), " "), ", seed ", kSeed);
      ASSERT_EQ(answer, whole.substr(CommonBytes(echo, whole))) << where;
      ASSERT_TRUE(absl::EndsWith(echo, context.open_text)) << where;
      echo.resize(echo.size() - context.open_text.size());
      ASSERT_EQ(absl::StrCat(echo, detokenizer.TakeOpenText(), answer), whole) << where;
    }
  }
}

TEST(DetokenizerTest, FewTokensOfAPromptDecideHowItsAnswerIsDecoded) {
  const json llama = Sequence(
      {Replace({{"String", "▁"}}, " "), Typed("ByteFallback"), Typed("Fuse"), Strip(" ", 1, 0)});
  const struct {
    json decoder;
    const char* tokens;  // the prompt's, after many others
    size_t length;
  } cases[] = {
      {llama, "a b ▁a a", 4},
      {llama, "▁ ▁ ▁ ▁", 4},
      // Bytes may be a character with those before them.
      {llama, "a <0xE2> <0x86> <0x92> <0x41> <0x41>", 6},
      {Typed("ByteLevel"), "a b a Ã", 4},
      {Typed("ByteLevel"), "a Ã Ã Ã Ã Ã", 8},
      {{{"type", "Metaspace"}, {"replacement", "▁"}}, "▁a ▁a ▁a ▁a", 4},
      {nullptr, "a a a a", 4},
      // A long literal may have begun anywhere.
      {Sequence({Typed("Fuse"), Replace({{"String", "aab"}}, "_")}), "a b", 102},
  };
  json vocab = SmallTokenizerJson()["model"]["vocab"];
  vocab.update(TokensOfAllKinds());
  for (const auto& c : cases) {
    const auto tokenizer =
        MakeTokenizer({{"decoder", c.decoder}, {"model", {{"vocab", TokensOfAllKinds()}}}});
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    Ids prompt(100, vocab.at("c").get<TokenId>());
    for (const auto& token : absl::StrSplit(c.tokens, ' ')) {
      prompt.push_back(vocab.at(std::string(token)).get<TokenId>());
    }
    EXPECT_EQ(ContextOf(**tokenizer, prompt, {}).ids.size(), c.length)
        << c.decoder << " of " << c.tokens;
  }
}

struct AnswerCase {
  json decoder;
  std::vector<std::string> prompt;
  std::vector<std::string> answer;
  std::string open_text;
  std::string text;
};

TEST(DetokenizerTest, WhatIsBetweenPromptAndAnswerIsNeitherLostNorTwice) {
  const json llama = Sequence(
      {Replace({{"String", "▁"}}, " "), Typed("ByteFallback"), Typed("Fuse"), Strip(" ", 1, 0)});
  const json metaspace = {{"type", "Metaspace"}, {"replacement", "▁"}};
  const std::vector<AnswerCase> cases = {
      {llama, {"▁a"}, {"▁a", "b"}, "", " ab"},
      {metaspace, {"▁a"}, {"▁a", "b"}, "", " ab"},
      {nullptr, {"a"}, {"b"}, "", " b"},
      // Nothing but a special token comes before.
      {llama, {"<|end|>"}, {"▁a"}, "", "a"},
      {llama, {"▁"}, {"▁", "a"}, "", " a"},
      {Typed("ByteLevel"), {"a", "âĨ"}, {"Ĵ", "a"}, "\uFFFD", "→a"},
      {Typed("ByteLevel"), {"a", "âĨ"}, {"a"}, "\uFFFD", "a"},
      {Typed("ByteLevel"), {"a", "âĨ"}, {}, "\uFFFD", ""},
      {llama, {"a", "<0xE2>", "<0x86>"}, {"<0x92>", "a"}, "\uFFFD\uFFFD", "→a"},
      {llama, {"a", "<0xE2>", "<0x86>"}, {"a"}, "\uFFFD\uFFFD", "a"},
      {llama, {"a", "<0xE2>", "<0x86>"}, {"<0xFF>"}, "\uFFFD\uFFFD", "\uFFFD"},
      {llama, {"a", "<0x41>"}, {"b"}, "A", "b"},
      {llama, {"a", "<0x41>"}, {"<0xFF>", "b"}, "A", "\uFFFD\uFFFDb"},
      // No text is certain before the end.
      {Sequence({Typed("Fuse"), Replace({{"Regex", "ab"}}, "_")}), {"c", "a"}, {"b"}, "ca", "_"},
  };
  json vocab = SmallTokenizerJson()["model"]["vocab"];
  vocab.update(TokensOfAllKinds());
  vocab["<|end|>"] = 57;
  for (const AnswerCase& c : cases) {
    const auto tokenizer =
        MakeTokenizer({{"decoder", c.decoder},
                       {"model", {{"vocab", TokensOfAllKinds()}}},
                       {"added_tokens", {AddedTokenJson(57, "<|end|>", {"special"})}}});
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    Ids prompt;
    for (const std::string& token : c.prompt) prompt.push_back(vocab.at(token));
    const DecodeContext context = ContextOf(**tokenizer, prompt, {});
    EXPECT_EQ(context.open_text, c.open_text) << c.decoder << " of " << json(c.prompt);
    IncrementalDetokenizer detokenizer(**tokenizer, {}, context);
    std::string text;
    for (const std::string& token : c.answer) text += detokenizer.Append(vocab.at(token));
    text += detokenizer.Flush();
    EXPECT_EQ(text, c.text) << c.decoder << " of " << json(c.prompt) << " | " << json(c.answer);
  }
}

struct StreamCase {
  json decoder;
  std::vector<std::string> tokens;
  std::vector<std::string> pieces;  // the flushed text is the last
};

TEST(DetokenizerTest, TextComesAsSoonAsItIsCertain) {
  const json blank = Replace({{"String", "▁"}}, " ");
  const json llama = Sequence({blank, Typed("ByteFallback"), Typed("Fuse"), Strip(" ", 1, 0)});
  const std::vector<StreamCase> cases = {
      {Typed("ByteLevel"), {"âĨ", "Ĵ", "Ġx"}, {"", "→", " x", ""}},
      {Typed("ByteLevel"), {"âĨ", "a"}, {"", "\uFFFDa", ""}},
      {Typed("ByteLevel"), {"Ã", "âĨ"}, {"", "\uFFFD", "\uFFFD"}},
      // Not in the byte alphabet, so it stands for itself.
      {Typed("ByteLevel"), {"▁a", "  "}, {"▁a", "  ", ""}},
      {llama, {"▁", "a", "▁"}, {"", "a", " ", ""}},
      {llama, {"▁▁", "a"}, {" ", "a", ""}},
      // Only the end of a run of bytes tells whether it is text.
      {llama, {"<0xE2>", "<0x86>", "<0x92>", "a"}, {"", "", "", "→a", ""}},
      {llama,
       {"<0xE2>", "<0x86>", "<0x92>", "<0xFF>"},
       {"", "", "", "", "\uFFFD\uFFFD\uFFFD\uFFFD"}},
      {llama, {"<0x41>", "<0x41>"}, {"", "", "AA"}},
      {nullptr, {"a", "b"}, {"a", " b", ""}},
      {Sequence({Typed("Fuse"), Strip("a", 0, 2)}),
       {"b", "a", "a", "a", "b", "a"},
       {"b", "", "", "a", "aab", "", ""}},
      {Sequence({Typed("Fuse"), Replace({{"String", "aab"}}, "_")}),
       {"a", "a", "a", "b", "a"},
       {"", "", "a", "_", "", "a"}},
      {{{"type", "Metaspace"}, {"replacement", "▁"}}, {"▁▁", "▁a", "a▁"}, {"", " a", "a ", ""}},
  };
  for (const StreamCase& c : cases) {
    const json vocab = TokensOfAllKinds();
    const json all = [&] {
      json merged = SmallTokenizerJson()["model"]["vocab"];
      merged.update(vocab);
      return merged;
    }();
    const auto tokenizer = MakeTokenizer({{"decoder", c.decoder}, {"model", {{"vocab", vocab}}}});
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    IncrementalDetokenizer detokenizer(**tokenizer, {});
    std::vector<std::string> pieces;
    for (const std::string& token : c.tokens) pieces.push_back(detokenizer.Append(all.at(token)));
    pieces.push_back(detokenizer.Flush());
    EXPECT_EQ(pieces, c.pieces) << c.decoder << " of " << json(c.tokens);
  }
}

TEST(DecodeTest, SkipsSpecialTokensAndIdsThatNameNone) {
  const auto tokenizer = MakeTokenizer(
      {{"decoder", Typed("Fuse")},
       {"model", {{"vocab", {{"far", 60}}}}},
       {"added_tokens", {AddedTokenJson(42, "<s>", {"special"}), AddedTokenJson(43, "<think>")}}});
  // 42 tokens, so the ids of added ones go on with 42, though the vocabulary ends with 60.
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 61);
  const Ids ids = {42, 1, 55, 43, 60};
  EXPECT_EQ((*tokenizer)->Decode(ids, {}), "a<think>far");
  EXPECT_EQ((*tokenizer)->Decode(ids, {.skip_special_tokens = false}), "<s>a<think>far");
  EXPECT_EQ((*tokenizer)->Decode(Ids{-1, 61, 2'000'000'000, 1}, {}), "a");
}

// Tokenizers that know nothing of streams are decoded token by token.
class WordTokenizer final : public Tokenizer {
 public:
  absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view, EncodeOptions) const override {
    return Ids();
  }
  std::string Decode(absl::Span<const TokenId> ids, DecodeOptions) const override {
    return absl::StrJoin(ids, "");
  }
  int vocab_size() const override { return 10; }
};

TEST(DetokenizerTest, WorksWithAnyTokenizer) {
  const WordTokenizer tokenizer;
  IncrementalDetokenizer detokenizer(tokenizer, {});
  EXPECT_EQ(detokenizer.Append(1), "1");
  EXPECT_EQ(detokenizer.Append(2), "2");
  EXPECT_EQ(detokenizer.Flush(), "");
}

}  // namespace
}  // namespace sluice::tokenizer
