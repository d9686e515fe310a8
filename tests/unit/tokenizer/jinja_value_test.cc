// The values of templates behave as Python's. The expected texts were made by Python 3.11.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tokenizer/jinja/json.h"
#include "tokenizer/jinja/value.h"

namespace sluice::tokenizer::jinja {
namespace {

using Json = nlohmann::ordered_json;

std::string Printed(const Value& value) {
  std::string text;
  EXPECT_TRUE(AppendPrinted(value, 1000, text));
  return text;
}

TEST(JinjaValueTest, PrintsStringsInListsAsRepr) {
  const struct {
    std::string text;
    std::string expected;
  } cases[] = {
      {"it's", "\"it's\""},
      {"say \"x\"", "'say \"x\"'"},
      {"both ' and \"", "'both \\' and \"'"},
      {"a\\b", "'a\\\\b'"},
      {"\001\007\033\177", "'\\x01\\x07\\x1b\\x7f'"},
      {"\n\t\r", "'\\n\\t\\r'"},
      {"é日😀", "'é日😀'"},
      {"\302\240\302\255\342\200\213\342\200\250\343\200\200", "'\\xa0\\xad\\u200b\\u2028\\u3000'"},
      {"\356\200\200\363\240\200\201\364\217\277\277", "'\\ue000\\U000e0001\\U0010ffff'"},
      {"\315\270", "'\\u0378'"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(Printed(Value::List({Value::String(text)})), "[" + expected + "]");
    EXPECT_EQ(Printed(Value::String(text)), text);
  }
}

TEST(JinjaValueTest, PrintsFloats) {
  const struct {
    double number;
    std::string expected;
  } cases[] = {
      {0.0, "0.0"},
      {-0.0, "-0.0"},
      {1.0, "1.0"},
      {-1.5, "-1.5"},
      {0.1, "0.1"},
      {0.3333333333333333, "0.3333333333333333"},
      {100.0, "100.0"},
      {1000000000000000.0, "1000000000000000.0"},
      {1e+16, "1e+16"},
      {1.2345678901234568e+17, "1.2345678901234568e+17"},
      {0.0001, "0.0001"},
      {1e-05, "1e-05"},
      {1.5e-07, "1.5e-07"},
      {1e+22, "1e+22"},
      {1.7976931348623157e+308, "1.7976931348623157e+308"},
      {5e-324, "5e-324"},
      {2.5e-05, "2.5e-05"},
      {1234.5, "1234.5"},
  };
  for (const auto& [number, expected] : cases) EXPECT_EQ(Printed(Value::Float(number)), expected);
}

TEST(JinjaValueTest, StopsPrintingAtTheLimit) {
  const Value list = Value::List({Value::Int(1), Value::String("abc")});  // [1, 'abc']
  std::string text = "..";
  EXPECT_FALSE(AppendPrinted(list, 11, text));
  EXPECT_LE(text.size(), 11u);
  text = "..";
  EXPECT_TRUE(AppendPrinted(list, 12, text));
  EXPECT_EQ(text, "..[1, 'abc']");
}

TEST(JinjaValueTest, ComparesAsPython) {
  const struct {
    const char* a;
    const char* b;
    bool equal;
  } cases[] = {
      {"1", "true", true},
      {"0", "false", true},
      {"1", "1.0", true},
      {"2", "true", false},
      {"null", "null", true},
      {"null", "false", false},
      {"\"1\"", "1", false},
      {"9007199254740993", "9007199254740992.0", false},
      {"9223372036854775807", "9223372036854775808.0", false},
      {"[1, [2]]", "[true, [2.0]]", true},
      {"[1]", "[1, 1]", false},
      {"[]", "{}", false},
      {R"({"a": 1, "b": 2})", R"({"b": 2, "a": 1})", true},
      {R"({"a": 1})", R"({"a": 2})", false},
      {R"({"a": 1})", R"({"b": 1})", false},
      {R"({"a": 1})", R"({"a": 1, "b": 1})", false},
  };
  for (const auto& [a, b, equal] : cases) {
    const Value x = FromJson(Json::parse(a)).value();
    const Value y = FromJson(Json::parse(b)).value();
    EXPECT_EQ(x == y, equal) << a << " == " << b;
    EXPECT_EQ(y == x, equal) << b << " == " << a;
  }
}

TEST(JinjaValueTest, ReadsJsonInItsOrder) {
  const char* text = R"({"z": [1, -2, 1.5, true, null], "a": {"k": "v"}})";
  EXPECT_EQ(Printed(FromJson(Json::parse(text)).value()),
            "{'z': [1, -2, 1.5, True, None], 'a': {'k': 'v'}}");
}

TEST(JinjaValueTest, RefusesJsonBeyondItsLimits) {
  const auto nested = [](size_t depth) {
    return FromJson(Json::parse(std::string(depth, '[') + std::string(depth, ']')));
  };
  EXPECT_TRUE(nested(100).ok());
  EXPECT_EQ(nested(102).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(nested(100'000).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(FromJson(Json::parse("9223372036854775807")).ok());
  EXPECT_EQ(FromJson(Json::parse("9223372036854775808")).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sluice::tokenizer::jinja
