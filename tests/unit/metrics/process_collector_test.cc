#include "metrics/process_collector.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

namespace sluice::metrics {
namespace {

namespace fs = std::filesystem;

std::map<std::string, double> Values(const std::vector<prometheus::MetricFamily>& families) {
  std::map<std::string, double> values;
  for (const prometheus::MetricFamily& family : families) {
    const prometheus::ClientMetric& metric = family.metric.at(0);
    values[family.name] =
        family.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value;
  }
  return values;
}

TEST(ProcessCollectorTest, ReadsTheFieldsOfProc) {
  const fs::path proc = fs::path(testing::TempDir()) / ("proc-" + std::to_string(getpid()));
  fs::create_directories(proc / "self" / "fd");
  for (const char* fd : {"0", "1", "2", "7"}) std::ofstream(proc / "self" / "fd" / fd);
  // The name in parentheses contains what could be taken for the following fields.
  std::ofstream(proc / "self" / "stat")
      << "42 (a) S 1 (b)) R 1 42 42 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 4 0 1000 "
         "8192000 500 18446744073709551615 1 1 0 0\n";
  std::ofstream(proc / "stat") << "cpu  1 2 3\nbtime 1700000000\nprocesses 9\n";
  std::ofstream(proc / "self" / "limits")
      << "Limit                     Soft Limit           Hard Limit           Units     \n"
         "Max open files            1024                 4096                 files     \n";
  const std::map<std::string, double> values = Values(CollectProcess(proc.string()));
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  EXPECT_DOUBLE_EQ(values.at("process_cpu_seconds_total"), 400 / ticks);
  EXPECT_DOUBLE_EQ(values.at("process_start_time_seconds"), 1700000000 + 1000 / ticks);
  EXPECT_DOUBLE_EQ(values.at("process_virtual_memory_bytes"), 8192000);
  EXPECT_DOUBLE_EQ(values.at("process_resident_memory_bytes"),
                   500.0 * static_cast<double>(sysconf(_SC_PAGESIZE)));
  EXPECT_DOUBLE_EQ(values.at("process_open_fds"), 3);
  EXPECT_DOUBLE_EQ(values.at("process_max_fds"), 1024);
  fs::remove_all(proc);
}

TEST(ProcessCollectorTest, LeavesOutWhatCannotBeRead) {
  EXPECT_TRUE(CollectProcess("/nonexistent").empty());
}

TEST(ProcessCollectorTest, AnOpenedFileShows) {
  const double before = Values(CollectProcess()).at("process_open_fds");
  std::ifstream file("/proc/self/stat");
  EXPECT_EQ(Values(CollectProcess()).at("process_open_fds"), before + 1);
  EXPECT_GT(Values(CollectProcess()).at("process_resident_memory_bytes"), 0);
}

}  // namespace
}  // namespace sluice::metrics
