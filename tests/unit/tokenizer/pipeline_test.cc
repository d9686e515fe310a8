// What each component of a tokenizer.json does to text. The expectations are those of Hugging
// Face's tokenizers 0.23.2 for the same files.
#include <gtest/gtest.h>

#include "small_tokenizer.h"

namespace sluice::tokenizer {
namespace {

using nlohmann::json;

struct Case {
  std::string name;
  json patch;
  std::string text;
  std::string tokens;
};

void ExpectCases(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    EXPECT_EQ(EncodeToText(c.patch, c.text), c.tokens) << c.name << ": " << json(c.text).dump();
  }
}

TEST(NormalizerTest, RewritesText) {
  const auto normalizer = [](json value) { return json{{"normalizer", std::move(value)}}; };
  const json strip = normalizer({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}});
  const json replace = {{"type", "Replace"}, {"pattern", {{"Regex", "b+|x*"}}}, {"content", "_"}};
  const json prepend = {{"type", "Prepend"}, {"prepend", "ab"}};
  ExpectCases({
      {"NFC", normalizer({{"type", "NFC"}}), "e\u0301a", "é|a"},
      {"NFD", normalizer({{"type", "NFD"}}), "é", "e|<unk>"},
      {"NFKC", normalizer({{"type", "NFKC"}}), "ﬁ²", "f|i|2"},
      {"NFKD", normalizer({{"type", "NFKD"}}), "é½", "e|<unk>|1|<unk>|2"},
      {"Lowercase", normalizer({{"type", "Lowercase"}}), "İAz", "i|<unk>|a|z"},
      {"Strip", strip, " \u3000é \n", "é"},
      {"Strip", strip, "   ", ""},
      {"Prepend", normalizer(prepend), "c", "a|b|c"},
      {"Prepend", normalizer(prepend), "", ""},
      {"Replace of a string",
       normalizer({{"type", "Replace"}, {"pattern", {{"String", "."}}}, {"content", "$1"}}), "a.b",
       "a|<unk>|1|b"},
      {"Replace, empty matches too", normalizer(replace), "abbc", "_|a|_|c|_"},
      {"Sequence",
       normalizer({{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}, prepend}}}), "C",
       "a|b|c"},
  });
}

// Tokens tell where text was cut if no merge crosses the cut.
TEST(PreTokenizerTest, CutsText) {
  const auto cut = [](json value) {
    json patch = {{"pre_tokenizer", std::move(value)}};
    for (const char* token : {"ab", "bc", "1 ", " a", "aa", "12", "..", ".a", "a.", "b."}) {
      patch["model"]["vocab"][token] = 41 + patch["model"]["vocab"].size();
      patch["model"]["merges"].push_back({std::string(1, token[0]), std::string(1, token[1])});
    }
    return patch;
  };
  const auto split = [&](const char* behavior, bool invert, json pattern = {{"Regex", "\\.|b"}}) {
    return cut(
        {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}});
  };
  const json digits = {{"type", "Digits"}, {"individual_digits", true}};
  ExpectCases({
      {"nothing", cut(nullptr), "abc..a", "ab|c|..|a"},
      {"isolated", split("Isolated", false), "aab..", "aa|b|.|."},
      {"removed", split("Removed", false), "aab..c", "aa|c"},
      {"removed, inverted", split("Removed", true), "aab..c", "b|.|."},
      {"merged with previous", split("MergedWithPrevious", false), "ab..a", "ab|.|.|a"},
      {"merged with next", split("MergedWithNext", false), "a..ab", "a|.|.a|b"},
      {"contiguous", split("Contiguous", false), "a..a", "a|..|a"},
      {"contiguous, inverted", split("Contiguous", true), "a..a", "a|..|a"},
      {"string", split("Isolated", false, {{"String", "."}}), "a.bc", "a|.|bc"},
      {"empty string", split("Isolated", false, {{"String", ""}}), "abc", "a|b|c"},
      {"look-ahead sees the piece alone",
       cut({{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Digits"}},
              {{"type", "Split"},
               {"pattern", {{"Regex", "a(?=.)"}}},
               {"behavior", "Removed"},
               {"invert", false}}}}}),
       "aa1a", "a|1|a"},
      {"digits", cut(digits), "12a.", "1|2|a."},
      {"runs of digits", cut({{"type", "Digits"}}), "12a.", "12|a."},
      {"punctuation", cut({{"type", "Punctuation"}}), "a..a", "a|.|.|a"},
      {"punctuation, contiguous", cut({{"type", "Punctuation"}, {"behavior", "Contiguous"}}),
       "a..a", "a|..|a"},
      {"words and symbols", cut({{"type", "Whitespace"}}), " ab.. a1 ", "ab|..|a|1"},
      {"blanks", cut({{"type", "WhitespaceSplit"}}), " ab.a\u00a0a", "ab|.a|a"},
  });
}

TEST(MetaspaceTest, WritesBlanksAsItsCharacter) {
  const auto metaspace = [](json members) {
    members["type"] = "Metaspace";
    members["replacement"] = "▁";
    return json{{"pre_tokenizer", members}};
  };
  json first = metaspace({{"prepend_scheme", "first"}});
  json first_after_strip = first;
  first_after_strip["normalizer"] = {{"type", "Strip"}};
  json first_after_token = first;
  first_after_token["added_tokens"] = {AddedTokenJson(41, "<x>")};
  ExpectCases({
      {"default", metaspace({}), "a b", "▁|a|▁|b"},
      {"starts with a blank", metaspace({}), " a", "▁|a"},
      {"never", metaspace({{"prepend_scheme", "never"}}), "a b", "a|▁|b"},
      {"old form", metaspace({{"add_prefix_space", true}, {"str_rep", "▁"}}), "a", "▁|a"},
      {"old form, no prefix", metaspace({{"add_prefix_space", false}}), "a", "a"},
      {"first", first, "a", "▁|a"},
      {"first, but blanks were stripped", first_after_strip, " a", "a"},
      {"first, behind a token", first_after_token, "<x>a", "<x>|a"},
      {"first, before a token", first_after_token, "a<x>", "▁|a|<x>"},
  });
}

TEST(ByteLevelTest, MapsBytesToItsAlphabet) {
  const auto byte_level = [](bool add_prefix_space, bool use_regex) {
    json patch = {{"pre_tokenizer",
                   {{"type", "ByteLevel"},
                    {"add_prefix_space", add_prefix_space},
                    {"use_regex", use_regex}}}};
    int id = 41;
    for (const char* token : {"Ġ", "Ã", "©", "aĠ", "Ċ"}) patch["model"]["vocab"][token] = id++;
    patch["model"]["merges"] = {"a Ġ"};
    return patch;
  };
  ExpectCases({
      {"bytes", byte_level(false, true), "é\n", "Ã|©|Ċ"},
      {"words with their blank", byte_level(false, true), "a b", "a|Ġ|b"},
      {"no regex", byte_level(false, false), "a b", "aĠ|b"},
      {"prefix", byte_level(true, true), "a", "Ġ|a"},
      {"no second prefix", byte_level(true, true), " a", "Ġ|a"},
  });
}

TEST(AddedTokensTest, AreCutOutFirst) {
  const auto added = [](std::vector<json> tokens) { return json{{"added_tokens", tokens}}; };
  const json strips = added({AddedTokenJson(41, "<x>", {"rstrip"}), AddedTokenJson(30, " "),
                             AddedTokenJson(42, "<y>", {"lstrip"})});
  const json word = added({AddedTokenJson(41, "bc", {"single_word"})});
  const json longest =
      added({AddedTokenJson(41, "ab"), AddedTokenJson(42, "abc~"), AddedTokenJson(43, "bc~")});
  json normalized = added({AddedTokenJson(41, "BC", {"normalized"}), AddedTokenJson(42, "ABC")});
  normalized["normalizer"] = {{"type", "Lowercase"}};
  ExpectCases({
      {"leftmost, then longest", longest, "abcabc~bc~", "ab|c|abc~|bc~"},
      {"strip on the right", added({AddedTokenJson(41, "<x>", {"rstrip"})}), "a<x> \n b",
       "a|<x>|b"},
      {"strip on the left", added({AddedTokenJson(41, "<x>", {"lstrip"})}), "a \t<x> b",
       "a|<x>| |b"},
      {"swallowed blanks are tokens again", strips, "a<x>  b", "a|<x>| | |b"},
      {"single word", word, "bc abc bc_ bcé bc. bc\u200d",
       "bc| |a|b|c| |b|c|_| |b|c|é| |bc|.| "
       "|b|c|<unk>"},
      {"normalized", normalized, "abc", "a|BC"},
      {"not normalized", normalized, "ABC", "ABC"},
      {"in the vocabulary", added({AddedTokenJson(1, "a", {"special"})}), "bab", "b|a|b"},
  });
}

TEST(BpeTest, HandlesUnknownCharacters) {
  const auto model = [](json members) { return json{{"model", std::move(members)}}; };
  ExpectCases({
      {"unknown", {}, "aZZb", "a|<unk>|<unk>|b"},
      {"fused", model({{"fuse_unk", true}}), "aZZb", "a|<unk>|b"},
      {"left out", model({{"unk_token", nullptr}}), "aZZb", "a|b"},
      {"unknown token is unknown, but not needed", model({{"unk_token", "?"}}), "ab", "a|b"},
      {"bytes", model({{"byte_fallback", true}}), "aèb", "a|<0xC3>|<0xA8>|b"},
      {"bytes pass a waiting unknown token", model({{"byte_fallback", true}}), "aZèb",
       "a|<0xC3>|<0xA8>|<unk>|b"},
      {"not all bytes", model({{"byte_fallback", true}}), "ê", "<unk>"},
      {"no type, as in old files", model({{"type", nullptr}}), "ab", "a|b"},
  });
  EXPECT_EQ(
      EncodeToText(model({{"unk_token", "?"}}), "Z"),
      "INVALID_ARGUMENT: text: 'Z' has no token, and the tokenizer's unknown token '?' is not "
      "in its vocabulary");
}

TEST(PostProcessorTest, AddsSpecialTokensWhenAsked) {
  const json special = {{"SpecialToken", {{"id", "s"}, {"type_id", 0}}}};
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json processor = {{"type", "TemplateProcessing"},
                          {"single", {special, text, special}},
                          {"special_tokens", {{"s", {{"id", "s"}, {"ids", {26, 25}}}}}}};
  const json patch = {
      {"post_processor",
       {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, processor}}}}};
  EXPECT_EQ(EncodeToText(patch, "a", true), "z|y|a|z|y");
  EXPECT_EQ(EncodeToText(patch, "a", false), "a");
  EXPECT_EQ(EncodeToText(patch, "", true), "z|y|z|y");
}

TEST(EncodeTest, RefusesWhatIsNotUtf8) {
  for (const char* text : {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80"}) {
    EXPECT_EQ(EncodeToText({}, text), "INVALID_ARGUMENT: text: is not valid UTF-8");
  }
}

}  // namespace
}  // namespace sluice::tokenizer
