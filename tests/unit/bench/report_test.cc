#include "bench/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace sluice::bench {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

Report ExampleReport() {
  return {.model = "demo",
          .weights = "bf16",
          .threads = 2,
          .cpu = "A \"CPU\"",
          .isa = "avx2",
          .read_bandwidth = 40e9,
          .load_seconds = 1.5,
          .peak_rss_bytes = 123456789012,
          .results = {{.phase = "prefill",
                       .context = 4096,
                       .batch = 1,
                       .tokens = 512,
                       .seconds = 2,
                       .work = {.weight_bytes = 10e9, .flops = 600e9}}}};
}

TEST(ReportTest, JsonHasExactlyItsFields) {
  const json want = {
      {"model", "demo"},
      {"weights", "bf16"},
      {"threads", 2},
      {"cpu", "A \"CPU\""},
      {"isa", "avx2"},
      {"read_gbps", 40.0},
      {"load_seconds", 1.5},
      {"peak_rss_bytes", 123456789012},
      {"results", json::array({{{"phase", "prefill"},
                                {"context", 4096},
                                {"batch", 1},
                                {"tokens", 512},
                                {"tokens_per_second", 256.0},
                                {"weights_gbps", 5.0},
                                {"gflops", 300.0}}})},
  };
  EXPECT_EQ(json::parse(ToJson(ExampleReport()), nullptr, false), want);
}

TEST(ReportTest, ANameThatIsNotUtf8StillMakesJson) {
  Report report = ExampleReport();
  report.model = "a\xff";
  EXPECT_FALSE(json::parse(ToJson(report), nullptr, false).is_discarded());
}

TEST(ReportTest, TableHasTheFigures) {
  const std::string table = ToTable(ExampleReport());
  for (const char* text : {"demo", "bf16", "40.0", "prefill", "4096", "256.0", "5.00", "300.0"}) {
    EXPECT_THAT(table, HasSubstr(text));
  }
}

}  // namespace
}  // namespace sluice::bench
