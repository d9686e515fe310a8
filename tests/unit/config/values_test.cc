#include "config/values.h"

#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <string>

namespace sluice::config {
namespace {

constexpr int64_t kKi = 1024;
constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

TEST(ValuesTest, ReadsWholeNumbersWithinTheirRange) {
  const struct {
    const char* text;
    std::optional<int64_t> want;
  } cases[] = {
      {"2", 2},    {"10", 10}, {"007", 7},  {"1", {}},   {"11", {}},
      {"", {}},    {"-3", {}}, {"+3", {}},  {" 3", {}},  {"3 ", {}},
      {"3.0", {}}, {"3x", {}}, {"0x3", {}}, {"1e1", {}}, {"99999999999999999999", {}},
  };
  for (const auto& c : cases) {
    const auto got = ParseInt(c.text, 2, 10);
    EXPECT_EQ(got.ok() ? std::optional<int64_t>(*got) : std::nullopt, c.want) << c.text;
  }
}

TEST(ValuesTest, ReadsSizesInEveryUnit) {
  const struct {
    const char* text;
    std::optional<int64_t> want;
  } cases[] = {
      {"1", 1},
      {"1000", 1000},
      {"7B", 7},
      {"3KiB", 3 * kKi},
      {"512MiB", 512 * kKi * kKi},
      {"2GiB", 2 * kKi * kKi * kKi},
      {"1TiB", kKi * kKi * kKi * kKi},
      {"9223372036854775807", kMost},
      {"8388607TiB", int64_t{8388607} << 40},
      {"8388608TiB", {}},
      {"9223372036854775808", {}},
      {"0", {}},
      {"0GiB", {}},
      {"", {}},
      {"GiB", {}},
      {"-1GiB", {}},
      {"1.5GiB", {}},
      {"1 GiB", {}},
      {"1GB", {}},
      {"1G", {}},
      {"1gib", {}},
      {"1PiB", {}},
      {"1KiBB", {}},
  };
  for (const auto& c : cases) {
    const auto got = ParseBytes(c.text, 1, kMost);
    EXPECT_EQ(got.ok() ? std::optional<int64_t>(*got) : std::nullopt, c.want) << c.text;
  }
}

TEST(ValuesTest, SizesKeepToTheirRange) {
  EXPECT_TRUE(ParseBytes("1KiB", kKi, 2 * kKi).ok());
  EXPECT_TRUE(ParseBytes("2KiB", kKi, 2 * kKi).ok());
  EXPECT_FALSE(ParseBytes("1023", kKi, 2 * kKi).ok());
  EXPECT_FALSE(ParseBytes("2049", kKi, 2 * kKi).ok());
  EXPECT_FALSE(ParseBytes("3KiB", kKi, 2 * kKi).ok());
}

TEST(ValuesTest, PrintsSizesAsTheyAreRead) {
  const struct {
    int64_t bytes;
    const char* want;
  } cases[] = {
      {0, "0B"},
      {1, "1B"},
      {1023, "1023B"},
      {1024, "1KiB"},
      {1536, "1536B"},
      {kKi * kKi * 4, "4MiB"},
      {kKi * 1025, "1025KiB"},
      {int64_t{1} << 50, "1024TiB"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(FormatBytes(c.bytes), c.want);
    EXPECT_EQ(ParseBytes(c.want, 0, kMost).value(), c.bytes);
  }
}

TEST(ValuesTest, TakesHostAndPort) {
  for (const char* good : {"127.0.0.1:0", "0.0.0.0:65535", "localhost:80", "[::1]:50051", "[::]:0",
                           "a-host.example:9"}) {
    const auto got = ParseAddress(good);
    ASSERT_TRUE(got.ok()) << good;
    EXPECT_EQ(*got, good);
  }
  for (const char* bad :
       {"", ":", ":80", "80", "localhost", "localhost:", "localhost:x", "localhost:-1",
        "localhost:65536", "::1:80", "[::1]", "[]:80", "a b:80", "http://host:80", "[::1:80"}) {
    EXPECT_FALSE(ParseAddress(bad).ok()) << bad;
  }
}

TEST(ValuesTest, WhereNamesAreNotResolvedTheHostIsAnIpAddress) {
  for (const char* good : {"127.0.0.1:0", "localhost:80", "[::1]:50051", "[::]:0"}) {
    EXPECT_TRUE(ParseIpAddress(good).ok()) << good;
  }
  for (const char* bad : {"", "host:80", "1.2.3:4", "[host]:80", "[127.0.0.1]:80", "127.0.0.1"}) {
    EXPECT_FALSE(ParseIpAddress(bad).ok()) << bad;
  }
  EXPECT_NE(ParseIpAddress("host:80").status().message().find("IP address"), std::string::npos);
}

TEST(ValuesTest, TakesThePathOfASocket) {
  const std::string longest = "unix:/" + std::string(106, 'x');
  for (const std::string& good : {std::string("unix:/run/sluice.sock"), longest}) {
    const auto got = ParseSocketPath(good);
    ASSERT_TRUE(got.ok()) << good;
    EXPECT_EQ(*got, good);
  }
  for (const std::string& bad :
       {std::string(""), std::string("/run/x"), std::string("unix:"), std::string("unix:x"),
        std::string("unix:/run/"), std::string("unix://a/b"), longest + "x",
        std::string("unix:/a b"), std::string("unix:/a#b"), std::string("unix:/a?b"),
        std::string("unix:/a%41")}) {
    EXPECT_FALSE(ParseSocketPath(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace sluice::config
