#include "tokenizer/pattern.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace sluice::tokenizer {
namespace {

// The spans as text, matches in brackets.
std::string Show(const absl::StatusOr<Pattern>& pattern, const std::string& text) {
  if (!pattern.ok()) return pattern.status().ToString();
  MatchBudget budget(text.size());
  const auto spans = pattern->FindAll(text, budget);
  if (!spans.ok()) return spans.status().ToString();
  std::string shown;
  for (const Pattern::Span& span : *spans) {
    const std::string part = text.substr(span.begin, span.end - span.begin);
    absl::StrAppend(&shown, span.is_match ? "[" : "", part, span.is_match ? "]" : "");
  }
  return shown;
}

TEST(PatternTest, CoversTheTextWithMatches) {
  EXPECT_EQ(Show(Pattern::Regex("b+"), "abbcb"), "a[bb]c[b]");
  EXPECT_EQ(Show(Pattern::Regex("x"), "abc"), "abc");
  EXPECT_EQ(Show(Pattern::Regex("x"), ""), "");
  EXPECT_EQ(Show(Pattern::Regex("b*"), "abé"), "[]a[b]é[]");
  EXPECT_EQ(Show(Pattern::Regex(R"(\p{Lu}|(?i:'LL)|\s+(?!\S))"), "É'll  x "), "[É]['ll][ ] x[ ]");
  EXPECT_EQ(Show(Pattern::Literal("aa"), "aaaba"), "[aa]aba");
  EXPECT_EQ(Show(Pattern::Literal(".*"), "a.*b"), "a[.*]b");
  EXPECT_EQ(Show(Pattern::Literal(""), "aé"), "[]a[]é[]");
}

TEST(PatternTest, StopsBacktrackingThatWouldTakeForever) {
  // The last character keeps Oniguruma from seeing at once that there is no match.
  const std::string text = std::string(2'000, 'x') + " y";
  for (const char* regex : {"(x+x+)+[yz]", "(?:x|x)*[yz]", "(x*)*[yz]"}) {
    const auto pattern = Pattern::Regex(regex);
    ASSERT_TRUE(pattern.ok());
    MatchBudget budget(text.size());
    EXPECT_EQ(pattern->FindAll(text, budget).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

// Each search alone would be allowed; all together are not.
TEST(PatternTest, LimitsTheWorkOfAllSearchesTogether) {
  const auto pattern = Pattern::Regex("x(?=.*[yz])");
  ASSERT_TRUE(pattern.ok());
  const std::string text(50'000, 'x');
  MatchBudget budget(text.size());
  EXPECT_EQ(pattern->FindAll(text, budget).status().code(), absl::StatusCode::kInvalidArgument);
}

// Long runs are no attack on the patterns of published tokenizers.
TEST(PatternTest, AllowsLongRuns) {
  const auto pattern = Pattern::Regex(
      R"((?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
  ASSERT_TRUE(pattern.ok());
  for (const char* run : {" ", "\n", "a", "'", "1", "é", "\u3000", " \n"}) {
    std::string text;
    while (text.size() < 300'000) text += run;
    text += "x";
    MatchBudget budget(text.size());
    EXPECT_TRUE(pattern->FindAll(text, budget).ok()) << "a run of '" << run << "'";
  }
}

}  // namespace
}  // namespace sluice::tokenizer
