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

// The definition, by brute force: the first end of a match, and the longest that ends there.
Outcome Naive(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<size_t> best;
    for (size_t i = 0; i < stops.size(); ++i) {
      const size_t length = stops[i].size();
      if (length <= end && text.compare(end - length, length, stops[i]) == 0 &&
          (!best || length > stops[*best].size())) {
        best = i;
      }
    }
    if (best) return {text.substr(0, end - stops[*best].size()), best};
  }
  return {text, std::nullopt};
}

// Runs the matcher over `text` cut before the positions whose bit in `cuts` is set. What has been
// released by then must always be a prefix of the answer and must hold back no more than it needs.
Outcome Run(const std::string& text, const std::vector<std::string>& stops, uint64_t cuts) {
  const Outcome expected = Naive(text, stops);
  StopMatcher matcher(stops);
  Outcome outcome;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin + 1;
    while (end < text.size() && (cuts >> end & 1) == 0) ++end;
    StopMatcher::Result result = matcher.Append(text.substr(begin, end - begin));
    outcome.text += result.text;
    EXPECT_EQ(expected.text.substr(0, outcome.text.size()), outcome.text);
    if (result.match) return {outcome.text, result.match};
    // What is held back is the beginning of a stop string.
    const std::string held = text.substr(outcome.text.size(), end - outcome.text.size());
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
  EXPECT_EQ(Run("xabcd", {"abcd", "bc"}, ~0ull), (Outcome{"xa", 1}));
  EXPECT_EQ(Run("xabcd", {"abcd", "bc"}, 0), (Outcome{"xa", 1}));
  EXPECT_EQ(Run("xabc", {"c", "abc", "bc"}, 0), (Outcome{"x", 1}));
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
    const Outcome expected = Naive(whole, stops);
    for (uint64_t cuts = 0; cuts < (1ull << whole.size()); cuts += 2) {
      const Outcome outcome = Run(whole, stops, cuts);
      ASSERT_EQ(outcome, expected) << "round " << round << ", text " << whole << ", cuts " << cuts
                                   << ", first stop string " << stops[0];
    }
  }
}

}  // namespace
}  // namespace sluice::api
