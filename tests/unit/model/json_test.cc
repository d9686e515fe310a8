#include "model/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace sluice::model {
namespace {

using ::testing::HasSubstr;

TEST(ParseJsonObjectTest, BuildsWhatTheTextSays) {
  const std::string text =
      R"({"a": [1, -2, 0.5, "x", null, true, [], {}], "b": {"c": {"d": []}}, "": 18446744073709551615})";
  const auto json = ParseJsonObject("f", text);
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(*json, Json::parse(text));
}

TEST(ParseJsonObjectTest, RefusesWhatIsNoObjectAndNamesThePlace) {
  struct Case {
    std::string text;
    const char* message;
  };
  const Case kCases[] = {
      {"", "f: is not valid JSON at byte"},
      {"nonsense", "f: is not valid JSON at byte 2"},
      {"[]", "f: is not a JSON object"},
      {"3", "f: is not a JSON object"},
      {R"("x")", "f: is not a JSON object"},
      {"null", "f: is not a JSON object"},
      {"{} {}", "f: is not valid JSON"},
      {R"({"a": 1, "b")", "after the name \"b\""},
      {R"({"a": 1, "b": NaN})", "f: is not valid JSON at byte 15, after the name \"b\""},
      {R"({"a": -Infinity})", "after the name \"a\""},
      {R"({"rope_theta": 1e999})",
       "f: has a number that is too large at byte 20, after the name "
       "\"rope_theta\""},
      {R"({"a": 1, "a": 2})", "f: has the name \"a\" twice"},
      {R"({"a": {"b": 1, "b": 1}})", "f: has the name \"b\" twice"},
      {"{\"a\": \"\xff\"}", "f: is not valid JSON"},
      {std::string("{\"a\": \"\0\"}", 10), "f: is not valid JSON"},
      {R"({"a": )" + std::string(100'000, '['), "f: is nested more than 32 deep"},
      {R"({"a": )" + std::string(100'000, '[') + std::string(100'000, ']') + "}",
       "f: is nested more than 32 deep"},
  };
  for (const Case& test : kCases) {
    const auto json = ParseJsonObject("f", test.text);
    EXPECT_EQ(json.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(json.status().message()), HasSubstr(test.message));
  }
}

TEST(ParseJsonObjectTest, NestsUpToItsLimit) {
  const auto nested = [](int depth) {  // with the outer object
    return R"({"a": )" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_TRUE(ParseJsonObject("f", nested(kMaxJsonDepth)).ok());
  EXPECT_FALSE(ParseJsonObject("f", nested(kMaxJsonDepth + 1)).ok());
}

TEST(DescribeTest, IsShortAndPrintable) {
  EXPECT_EQ(Describe(Json(1.5)), "1.5");
  EXPECT_EQ(Describe(Json(nullptr)), "null");
  EXPECT_EQ(Describe(Json("a\n\x1b\xc3\xa9")), R"("a\n\u001b\u00e9")");
  EXPECT_EQ(Describe(Json::parse("[1, 2, 3]")), "a list of 3");
  EXPECT_EQ(Describe(Json::parse("{}")), "an object");
  EXPECT_LT(Describe(Json(std::string(1'000'000, 'x'))).size(), 100);
  // Cut in the middle of a character.
  EXPECT_LT(Describe(Json(std::string(79, 'x') + "\xc3\xa9")).size(), 100);
}

TEST(JsonObjectTest, IntegersAreExactAndWithinTheirRange) {
  const Json json = Json::parse(
      R"({"one": 1, "huge": 18446744073709551615, "low": -9223372036854775808, "real": 2.0,
          "text": "1", "yes": true, "null": null, "over": 4294967297})");
  const JsonObject object("f", json, "in.");
  EXPECT_EQ(object.GetInt("one", {}).value(), 1);
  EXPECT_EQ(object.GetInt("absent", {.fallback = 7}).value(), 7);
  EXPECT_EQ(object.GetOptionalInt("null", {}).value(), std::nullopt);
  EXPECT_EQ(object.GetOptionalInt("absent", {}).value(), std::nullopt);
  EXPECT_EQ(object.GetInt("absent", {}).status().message(),
            "f: in.absent is missing, must be an integer");
  for (const char* field : {"huge", "low", "real", "text", "yes", "null", "over"}) {
    const absl::Status status = object.GetInt(field, {.fallback = 1}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("f: in.") + field + " is "));
  }
  EXPECT_EQ(object.GetInt("one", {.min = 2, .max = 3}).status().message(),
            "f: in.one is 1, must be an integer from 2 to 3");
}

TEST(JsonObjectTest, NumbersAreWithinTheirRange) {
  const Json json = Json::parse(R"({"half": 0.5, "one": 1, "zero": 0, "text": "1", "null": null})");
  const JsonObject object("f", json);
  EXPECT_EQ(object.GetReal("half", {}).value(), 0.5);
  EXPECT_EQ(object.GetReal("one", {.max = 1}).value(), 1.0);
  EXPECT_EQ(object.GetReal("zero", {}).value(), 0.0);
  EXPECT_EQ(object.GetReal("zero", {.above_min = true}).status().message(),
            "f: zero is 0, must be a number above 0 and up to 1e+06");
  EXPECT_FALSE(object.GetReal("one", {.max = 0.9}).ok());
  EXPECT_FALSE(object.GetReal("half", {.min = 0.6}).ok());
  EXPECT_FALSE(object.GetReal("text", {}).ok());
  EXPECT_FALSE(object.GetReal("null", {.fallback = 1.0}).ok());
  EXPECT_EQ(object.GetOptionalReal("null", {}).value(), std::nullopt);
}

}  // namespace
}  // namespace sluice::model
