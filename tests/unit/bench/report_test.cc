#include "bench/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sluice::bench {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// Three rounds of a prefill, with one of a decode among them.
Report ExampleReport() {
  Measurement prefill{.phase = "prefill",
                      .context = 4096,
                      .batch = 1,
                      .tokens = 512,
                      .steps = 2,
                      .seconds = 2,
                      .work = {.weight_bytes = 20e9, .kv_bytes = 4e9, .flops = 600e9},
                      .read_bandwidth = 48e9};
  Measurement decode = prefill;
  decode.phase = "decode";
  Measurement slow = prefill;
  slow.seconds = 4;
  Measurement fast = prefill;
  fast.seconds = 1;
  return {.model = "demo",
          .weights = "bf16",
          .threads = 2,
          .cpu = "A \"CPU\"",
          .isa = "avx2",
          .load_seconds = 1.5,
          .peak_rss_bytes = 123456789012,
          .read_bandwidths = {40e9, 30e9, 60e9},
          .measurements = {slow, decode, fast, prefill}};
}

json ExampleRow(const char* phase, int rounds, double min, double max) {
  return {{"phase", phase},
          {"context", 4096},
          {"batch", 1},
          {"tokens", 512},
          {"rounds", rounds},
          {"tokens_per_second", 256.0},
          {"tokens_per_second_min", min},
          {"tokens_per_second_max", max},
          {"weights_gbps", 10.0},
          {"weights_and_kv_gbps", 12.0},
          {"gflops", 300.0},
          {"read_gbps", 48.0},
          {"bandwidth_share", 0.25},
          {"step_ms", 1000.0},
          // 24 GB in two steps take 250 ms each.
          {"ms_beyond_reading", 750.0}};
}

TEST(ReportTest, JsonHasExactlyItsFields) {
  const json want = {
      {"model", "demo"},
      {"weights", "bf16"},
      {"threads", 2},
      {"cpu", "A \"CPU\""},
      {"isa", "avx2"},
      {"read_gbps", 40.0},
      {"read_gbps_min", 30.0},
      {"read_gbps_max", 60.0},
      {"load_seconds", 1.5},
      {"peak_rss_bytes", 123456789012},
      {"results",
       json::array({ExampleRow("prefill", 3, 128, 512), ExampleRow("decode", 1, 256, 256)})},
  };
  EXPECT_EQ(json::parse(ToJson(ExampleReport()), nullptr, false), want);
}

TEST(ReportTest, CompactJsonIsOneLine) {
  const std::string text = ToJson(ExampleReport(), /*compact=*/true);
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  EXPECT_EQ(json::parse(text, nullptr, false),
            json::parse(ToJson(ExampleReport()), nullptr, false));
}

TEST(ReportTest, SpreadsAreMediansBetweenExtremes) {
  const struct {
    std::vector<double> values;
    Spread want;
  } cases[] = {{{}, {0, 0, 0}}, {{3}, {3, 3, 3}}, {{5, 1}, {3, 1, 5}}, {{9, 1, 2}, {2, 1, 9}}};
  for (const auto& c : cases) {
    const Spread spread = SpreadOf(c.values);
    EXPECT_EQ(spread.median, c.want.median);
    EXPECT_EQ(spread.min, c.want.min);
    EXPECT_EQ(spread.max, c.want.max);
  }
}

TEST(ReportTest, WithoutABandwidthThereIsNoShareOfIt) {
  Report report = ExampleReport();
  for (Measurement& measurement : report.measurements) measurement.read_bandwidth = 0;
  const std::vector<Row> rows = Rows(report.measurements);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].bandwidth_share, 0);
  EXPECT_EQ(rows[0].seconds_beyond_reading, 0);
}

TEST(ReportTest, ANameThatIsNotUtf8StillMakesJson) {
  Report report = ExampleReport();
  report.model = "a\xff";
  EXPECT_FALSE(json::parse(ToJson(report), nullptr, false).is_discarded());
}

TEST(ReportTest, TableHasTheFigures) {
  const std::string table = ToTable(ExampleReport());
  for (const char* text : {"demo", "bf16", "40.0 GB/s (30.0 to 60.0)", "prefill", "4096", "256.0",
                           "(128.0 .. 512.0)", "12.00", "25.0", "300.0", "1000.000", "750.000"}) {
    EXPECT_THAT(table, HasSubstr(text));
  }
}

}  // namespace
}  // namespace sluice::bench
