#include "api/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace sluice::api {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Of "password" and "secret", as sha256sum prints them.
constexpr char kPassword[] = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
constexpr char kSecret[] = "2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B";

TEST(TokenFileTest, ReadsNamesHashesAndLimits) {
  const auto rules =
      ParseTokenFile(absl::StrCat("# who may call\n\n  alice ", kPassword, "  \r\nbob-2.x_Y\t",
                                  kSecret, " concurrent=4 requests_per_second=2.5"));
  ASSERT_TRUE(rules.ok()) << rules.status();
  ASSERT_EQ(rules->size(), 2u);
  const TokenRule& alice = (*rules)[0];
  EXPECT_EQ(alice.name, "alice");
  EXPECT_EQ(alice.hash, HashToken("password"));
  EXPECT_FALSE(alice.requests_per_second.has_value());
  EXPECT_FALSE(alice.concurrent.has_value());
  const TokenRule& bob = (*rules)[1];
  EXPECT_EQ(bob.name, "bob-2.x_Y");
  EXPECT_EQ(bob.hash, HashToken("secret"));
  EXPECT_EQ(bob.requests_per_second, 2.5);
  EXPECT_EQ(bob.concurrent, 4);
}

TEST(TokenFileTest, WhatIsWrongIsSaidWithItsLineButWithoutWhatMayBeAToken) {
  const std::string good = absl::StrCat("alice ", kPassword, "\n");
  const struct {
    std::string text;
    const char* message;
  } rows[] = {
      {"", "there is no token in it"},
      {"# nothing\n\n", "there is no token in it"},
      {absl::StrCat(good, "bob"), "line 2: the name must be followed by"},
      {absl::StrCat(good, "\nbob hunter2hunter2"), "line 3: the name must be followed by"},
      {absl::StrCat("bob ", std::string(63, 'a')), "line 1: the name must be followed by"},
      {absl::StrCat("bob ", std::string(63, 'a'), "g"), "line 1: the name must be followed by"},
      {absl::StrCat("b/b ", kSecret), "line 1: the name must be 1 to 64"},
      {absl::StrCat(std::string(65, 'b'), " ", kSecret), "line 1: the name must be 1 to 64"},
      {absl::StrCat(good, "alice ", kSecret), "line 2: the name is that of line 1"},
      {absl::StrCat(good, "bob ", kPassword), "line 2: the token is that of line 1"},
      {"bob e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
       "line 1: the hash is that of an empty token"},
      {absl::StrCat("bob ", kSecret, " requests_per_second=1e-30"), "requests_per_second must be"},
      {absl::StrCat("bob ", kSecret, " concurrent=0"), "concurrent must be"},
      {absl::StrCat("bob ", kSecret, " concurrent=1.5"), "concurrent must be"},
      {absl::StrCat("bob ", kSecret, " requests_per_second=0"), "requests_per_second must be"},
      {absl::StrCat("bob ", kSecret, " requests_per_second=nan"), "requests_per_second must be"},
      {absl::StrCat("bob ", kSecret, " requests_per_second=-1"), "requests_per_second must be"},
      {absl::StrCat("bob ", kSecret, " rate=1"), "behind the hash only"},
  };
  for (const auto& row : rows) {
    const auto rules = ParseTokenFile(row.text);
    EXPECT_EQ(rules.status().code(), absl::StatusCode::kInvalidArgument) << row.text;
    EXPECT_THAT(std::string(rules.status().message()),
                AllOf(HasSubstr(row.message), Not(HasSubstr("hunter2"))))
        << row.text;
  }
}

TEST(TokenFileTest, TakesAThousandTokens) {
  std::string text;
  for (size_t i = 0; i < kMaxTokens; ++i) {
    const TokenHash hash = HashToken(absl::StrCat(i));
    absl::StrAppend(&text, "t", i, " ",
                    absl::BytesToHexString(
                        absl::string_view(reinterpret_cast<const char*>(hash.data()), hash.size())),
                    "\n");
  }
  EXPECT_TRUE(ParseTokenFile(text).ok());
  EXPECT_FALSE(ParseTokenFile(absl::StrCat(text, "one-more ", kSecret)).ok());
}

}  // namespace
}  // namespace sluice::api
