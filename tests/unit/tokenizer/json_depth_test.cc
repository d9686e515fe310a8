#include "tokenizer/json_depth.h"

#include <gtest/gtest.h>

#include <string>

#include "tokenizer/tokenizer.h"

namespace sluice::tokenizer {
namespace {

std::string Nested(const std::string& open, const std::string& close, int depth) {
  std::string json;
  for (int i = 0; i < depth; ++i) json += open;
  json += '1';
  for (int i = 0; i < depth; ++i) json += close;
  return json;
}

TEST(JsonDepthTest, CountsArraysAndObjectsButNotWhatStringsHold) {
  const std::string brackets(100, '[');
  const struct {
    std::string json;
    bool is_within;
  } cases[] = {
      {"", true},
      {Nested("[", "]", 64), true},
      {Nested("[", "]", 65), false},
      {Nested("{\"a\":", "}", 64), true},
      {Nested("{\"a\":", "}", 65), false},
      {Nested("[{\"a\":", "}]", 32), true},
      {Nested("[{\"a\":", "}]", 33), false},
      {"[" + Nested("[", "]", 63) + "," + Nested("[", "]", 63) + "]", true},
      {"[" + Nested("[", "]", 63) + "," + Nested("[", "]", 64) + "]", false},
      {"\"" + brackets + "\"", true},
      {"\"\\\"" + brackets + "\"", true},
      {"\"\\\\\"" + brackets, false},
      {brackets, false},
      {"\"\\", true},
  };
  for (const auto& [json, is_within] : cases) EXPECT_EQ(IsWithinJsonDepth(json), is_within) << json;
}

TEST(JsonDepthTest, ATokenizerFileMayNotBeNestedDeeper) {
  for (const std::string& json : {Nested("[", "]", 1'000'000), Nested("{\"a\":", "}", 1'000'000),
                                  std::string(1'000'000, '[')}) {
    const absl::Status status = Tokenizer::Parse(json, "deep.json").status();
    EXPECT_EQ(status, absl::InvalidArgumentError("deep.json: is nested more than 64 deep"));
  }
}

}  // namespace
}  // namespace sluice::tokenizer
