// The limits on templates: what is just allowed works, what is beyond ends in an error.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tokenizer/chat_template.h"

namespace sluice::tokenizer {
namespace {

using testing::HasSubstr;

std::string Repeat(absl::string_view text, int count) {
  std::string repeated;
  for (int i = 0; i < count; ++i) absl::StrAppend(&repeated, text);
  return repeated;
}

absl::StatusOr<std::string> Render(const std::string& source, const std::string& content = "x") {
  const auto parsed = ChatTemplate::Parse(source, {});
  if (!parsed.ok()) return parsed.status();
  const ChatMessage messages[] = {{"user", content}};
  return (*parsed)->Render(messages, true);
}

void ExpectRefused(const absl::Status& status, absl::string_view message) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(message)));
}

TEST(ChatTemplateLimitsTest, SourceOfOneMebibyte) {
  std::string source(size_t{1} << 20, 'x');
  EXPECT_EQ(Render(source).value().size(), source.size());
  source += 'x';
  ExpectRefused(Render(source).status(), "more than the limit of 1048576");
}

TEST(ChatTemplateLimitsTest, NestingOfAHundred) {
  const struct {
    const char* begin;
    const char* middle;
    const char* end;
    const char* expected;
  } cases[] = {
      {"{% if true %}", "x", "{% endif %}", "x"},
      {"{% if false %}{% else %}", "x", "{% endif %}", "x"},
      {"{% for c in 'a' %}", "{{ c }}", "{% endfor %}", "a"},
      {"(", "", "", nullptr},
      {"x[", "", "", nullptr},
  };
  for (const auto& [begin, middle, end, expected] : cases) {
    const std::string opening = expected == nullptr ? "{{ " : "";
    if (expected != nullptr) {
      EXPECT_EQ(Render(Repeat(begin, 100) + middle + Repeat(end, 100)).value(), expected);
    }
    ExpectRefused(Render(opening + Repeat(begin, 101) + middle + Repeat(end, 101)).status(),
                  "nested more than 100 levels deep");
    ExpectRefused(Render(opening + Repeat(begin, 40'000)).status(),
                  "nested more than 100 levels deep");
  }
  EXPECT_EQ(Render("{{ " + Repeat("(", 100) + "1" + Repeat(")", 100) + " }}").value(), "1");
  EXPECT_EQ(Render("{{ " + Repeat("messages[", 100) + "0" + Repeat("]", 100) + " }}").value(), "");
}

TEST(ChatTemplateLimitsTest, LongChainsAreNotNesting) {
  constexpr int kLength = 100'000;
  EXPECT_EQ(Render("{{ 'a'" + Repeat("[0]", kLength) + " }}").value(), "a");
  EXPECT_EQ(Render("{{ 0" + Repeat(" + 1", kLength) + " }}").value(), "100000");
  EXPECT_EQ(Render("{{ 'a'" + Repeat("+'a'", kLength) + " }}").value().size(), kLength + 1);
  EXPECT_EQ(Render("{{ 1" + Repeat(" == 1", kLength) + " }}").value(), "True");
  EXPECT_EQ(
      Render("{% if 0 %}" + Repeat("{% elif 0 %}", kLength / 2) + "{% else %}x{% endif %}").value(),
      "x");
  EXPECT_EQ(Render(Repeat("{% if 1 %}x{% endif %}", kLength / 4)).value().size(), kLength / 4);
}

TEST(ChatTemplateLimitsTest, OutputOfSixteenMebibytes) {
  const std::string mebibyte(size_t{1} << 20, 'x');
  const std::string output = "{{ messages[0].content }}";
  EXPECT_EQ(Render(Repeat(output, 16), mebibyte).value().size(), size_t{16} << 20);
  ExpectRefused(Render(Repeat(output, 16) + ".", mebibyte).status(), "longer than 16777216 bytes");
  ExpectRefused(Render(Repeat(output, 17), mebibyte).status(), "longer than 16777216 bytes");
  ExpectRefused(Render("{{ messages" + Repeat(" + messages", 17) + " }}", mebibyte).status(),
                "longer than 16777216 bytes");
}

TEST(ChatTemplateLimitsTest, TextOfOneExpression) {
  const std::string mebibyte(size_t{1} << 20, 'x');
  const auto sum = [](int count) {
    return "{% if messages[0].content" + Repeat(" + messages[0].content", count - 1) +
           " %}x{% endif %}";
  };
  EXPECT_EQ(Render(sum(16), mebibyte).value(), "x");
  ExpectRefused(Render(sum(17), mebibyte).status(), "longer than 16777216 bytes");
}

TEST(ChatTemplateLimitsTest, StepsOfEvaluation) {
  constexpr char kMessage[] = "needs more than 10000000 steps";
  const std::string text(1000, 'x');
  const auto loops = [](int depth) {
    return Repeat("{% for c in messages[0].content %}", depth) + Repeat("{% endfor %}", depth);
  };
  EXPECT_EQ(Render(loops(2), text).value(), "");
  ExpectRefused(Render(loops(3), text).status(), kMessage);

  const std::string long_text(1'000'000, 'x');
  const std::string each = "{% for c in messages[0].content %}";
  for (const char* work : {"{{ messages[0].content[-1] }}",
                           "{% if messages[0].content == messages[0].content + '' %}{% endif %}",
                           "{% if messages == messages + messages %}{% endif %}"}) {
    ExpectRefused(Render(each + work + "{% endfor %}", long_text).status(), kMessage);
  }
}

}  // namespace
}  // namespace sluice::tokenizer
