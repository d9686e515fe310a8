// The merges of the BPE model against a twin that looks for the best merge again at every step.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "small_tokenizer.h"

namespace sluice::tokenizer {
namespace {

using nlohmann::json;

struct Model {
  std::map<std::string, int> ids;
  std::vector<std::pair<std::string, std::string>> merges;  // best first
};

Model RandomModel(std::mt19937& random, int num_merges) {
  Model model;
  std::vector<std::string> tokens = {"a", "b", "c"};
  for (const std::string& token : tokens) model.ids[token] = static_cast<int>(model.ids.size());
  while (static_cast<int>(model.merges.size()) < num_merges) {
    const std::string& left = tokens[random() % tokens.size()];
    const std::string& right = tokens[random() % tokens.size()];
    if (left.size() + right.size() > 8) continue;
    model.merges.emplace_back(left, right);
    const std::string merged = model.merges.back().first + model.merges.back().second;
    if (model.ids.try_emplace(merged, static_cast<int>(model.ids.size())).second) {
      tokens.push_back(merged);
    }
  }
  return model;
}

std::vector<TokenId> SlowEncode(const Model& model, const std::string& text) {
  // Of a pair that is given twice the last counts.
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (size_t i = 0; i < model.merges.size(); ++i) ranks[model.merges[i]] = i;
  std::vector<std::string> symbols;
  for (const char c : text) symbols.emplace_back(1, c);
  for (;;) {
    size_t best = model.merges.size();
    size_t at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto rank = ranks.find({symbols[i], symbols[i + 1]});
      if (rank != ranks.end() && rank->second < best) {
        best = rank->second;
        at = i;
      }
    }
    if (best == model.merges.size()) break;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::vector<TokenId> ids;
  for (const std::string& symbol : symbols) ids.push_back(model.ids.at(symbol));
  return ids;
}

TEST(BpeMergeTest, AppliesTheBestMergeFirstAndTheLeftmostOfEquals) {
  constexpr uint32_t kSeed = 20;
  std::mt19937 random(kSeed);
  for (int i = 0; i < 40; ++i) {
    const Model model = RandomModel(random, 1 + static_cast<int>(random() % 40));
    json file = {{"model", {{"type", "BPE"}, {"vocab", model.ids}, {"merges", model.merges}}}};
    const auto tokenizer = Tokenizer::Parse(file.dump(), "random.json");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (int k = 0; k < 40; ++k) {
      std::string text(random() % 60, ' ');
      for (char& c : text) c = static_cast<char>('a' + random() % 3);
      ASSERT_EQ((*tokenizer)->Encode(text, {}).value(), SlowEncode(model, text))
          << text << ", seed " << kSeed << ", model " << file;
    }
  }
}

TEST(BpeMergeTest, KnowsPrefixesAndSuffixes) {
  const json patch = {
      {"model",
       {{"vocab", {{"##b", 41}, {"ab", 42}, {"b</w>", 43}, {"##b</w>", 44}, {"ab</w>", 45}}},
        {"continuing_subword_prefix", "##"},
        {"end_of_word_suffix", "</w>"},
        {"merges", {"a ##b", "a ##b</w>"}}}}};
  EXPECT_EQ(EncodeToText(patch, "ab"), "ab</w>");
  EXPECT_EQ(EncodeToText(patch, "abb"), "ab|##b</w>");
  EXPECT_EQ(EncodeToText(patch, "b"), "b</w>");
  EXPECT_EQ(EncodeToText(patch, "a"), "<unk>");
}

TEST(BpeMergeTest, TakesWholePiecesFromTheVocabularyWhenMergesAreIgnored) {
  json patch = {{"model", {{"vocab", {{"abc", 41}}}, {"ignore_merges", true}}}};
  EXPECT_EQ(EncodeToText(patch, "abc"), "abc");
  EXPECT_EQ(EncodeToText(patch, "abcd"), "a|b|c|d");
  patch["model"]["ignore_merges"] = false;
  EXPECT_EQ(EncodeToText(patch, "abc"), "a|b|c");
}

TEST(BpeMergeTest, PassesOverTheVersionLine) {
  EXPECT_EQ(EncodeToText(
                {{"model", {{"vocab", {{"ab", 41}}}, {"merges", {"#version: 0.2", "a b"}}}}}, "ab"),
            "ab");
}

}  // namespace
}  // namespace sluice::tokenizer
