#include "api/stop_matcher.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <string>
#include <vector>

namespace sluice::api {
namespace {

struct Outcome {
  std::string text;
  std::optional<size_t> match;
  bool operator==(const Outcome&) const = default;
};

struct Rules {
  // Bytes at the beginning that no match may end in.
  size_t exempt = 0;
  bool include_stop = false;
};

// The definition, by brute force: the first end of a match, and the longest that ends there.
Outcome Naive(const std::string& text, const std::vector<std::string>& stops, Rules rules) {
  for (size_t end = rules.exempt + 1; end <= text.size(); ++end) {
    std::optional<size_t> best;
    for (size_t i = 0; i < stops.size(); ++i) {
      const size_t length = stops[i].size();
      if (length <= end && text.compare(end - length, length, stops[i]) == 0 &&
          (!best || length > stops[*best].size())) {
        best = i;
      }
    }
    if (best) return {text.substr(0, end - (rules.include_stop ? 0 : stops[*best].size())), best};
  }
  return {text, std::nullopt};
}

// Runs the matcher over `text` cut before the positions whose bit in `cuts` is set. What has been
// released by then must always be a prefix of the answer and must hold back no more than it needs.
Outcome Match(const std::string& text, const std::vector<std::string>& stops, uint64_t cuts,
              Rules rules = {}) {
  const Outcome expected = Naive(text, stops, rules);
  StopMatcher matcher(stops, rules.include_stop);
  cuts |= 1ull << rules.exempt;
  Outcome outcome;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin + 1;
    while (end < text.size() && (cuts >> end & 1) == 0) ++end;
    StopMatcher::Result result =
        matcher.Append(text.substr(begin, end - begin), begin >= rules.exempt);
    outcome.text += result.text;
    EXPECT_EQ(expected.text.substr(0, outcome.text.size()), outcome.text);
    if (result.match) return {outcome.text, result.match};
    // What is held back is the beginning of a stop string.
    const std::string held = text.substr(outcome.text.size(), end - outcome.text.size());
    EXPECT_TRUE(held.empty() || !rules.include_stop);
    bool is_prefix = held.empty();
    for (const std::string& stop : stops) is_prefix = is_prefix || stop.rfind(held, 0) == 0;
    EXPECT_TRUE(is_prefix) << "held back: " << held;
    begin = end;
  }
  outcome.text += matcher.Flush();
  return outcome;
}

TEST(StopMatcherTest, ReleasesTextThatCannotBeginAStopString) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.Append("hello").text, "hello");
  EXPECT_EQ(matcher.Append("E").text, "");
  EXPECT_EQ(matcher.Append("N").text, "");
  EXPECT_EQ(matcher.Append("x").text, "ENx");
  EXPECT_EQ(matcher.Append("EN").text, "");
  EXPECT_EQ(matcher.Flush(), "EN");
}

TEST(StopMatcherTest, WithoutStopStringsEverythingIsReleased) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Append("anything").text, "anything");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, TheMatchThatIsCompleteFirstWinsThenTheLongest) {
  EXPECT_EQ(Match("xabcd", {"abcd", "bc"}, ~0ull), (Outcome{"xa", 1}));
  EXPECT_EQ(Match("xabcd", {"abcd", "bc"}, 0), (Outcome{"xa", 1}));
  EXPECT_EQ(Match("xabc", {"c", "abc", "bc"}, 0), (Outcome{"x", 1}));
}

TEST(StopMatcherTest, TheMatchMayBelongToTheAnswer) {
  StopMatcher matcher({"END"}, /*include_stop=*/true);
  EXPECT_EQ(matcher.Append("E").text, "E") << "nothing needs to be held back";
  const StopMatcher::Result result = matcher.Append("NDx");
  EXPECT_EQ(result.text, "ND");
  EXPECT_EQ(result.match, 0u);
}

TEST(StopMatcherTest, WhatMayNotEndTheAnswerIsPassedOver) {
  StopMatcher matcher({"aba", "c"});
  EXPECT_EQ(matcher.Append("abac", false).text, "abac");
  EXPECT_EQ(matcher.Append("aba", false).text, "ab") << "the last one may begin another";
  const StopMatcher::Result result = matcher.Append("ba");
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.match, 0u);
}

TEST(StopMatcherTest, KeepsCharactersWhole) {
  StopMatcher matcher({"é!"});
  EXPECT_EQ(matcher.Append("aé").text, "a");
  EXPECT_EQ(matcher.Append("è").text, "éè");
}

TEST(StopMatcherTest, AgreesWithASearchOverTheWholeTextHoweverItIsCut) {
  std::mt19937 random(20261122);
  const auto text = [&](int max_size, char last) {
    std::string result(1 + random() % max_size, 'a');
    for (char& c : result) c = static_cast<char>('a' + random() % (last - 'a' + 1));
    return result;
  };
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> stops(1 + random() % 3);
    for (std::string& stop : stops) stop = text(5, 'c');
    const std::string whole = text(10, 'c');
    const Rules rules = {.exempt = random() % 3 == 0 ? random() % whole.size() : 0,
                         .include_stop = random() % 2 == 0};
    const Outcome expected = Naive(whole, stops, rules);
    for (uint64_t cuts = 0; cuts < (1ull << whole.size()); cuts += 2) {
      const Outcome outcome = Match(whole, stops, cuts, rules);
      ASSERT_EQ(outcome, expected) << "round " << round << ", text " << whole << ", cuts " << cuts
                                   << ", first stop string " << stops[0];
    }
  }
}

}  // namespace
}  // namespace sluice::api
