// Decoding, all at once and as tokens come.
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
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
