#include "config/machine.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace sluice::config {
namespace {

namespace fs = std::filesystem;

// A folder that stands in for the root of the file system.
class MachineTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(testing::TempDir()) /
            (std::string("machine-") + info->name() + "-" + std::to_string(getpid()));
  }
  void TearDown() override { fs::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const fs::path file = root_ / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void WriteSiblings(int processor, const std::string& siblings) {
    Write(
        "sys/devices/system/cpu/cpu" + std::to_string(processor) + "/topology/thread_siblings_list",
        siblings + "\n");
  }

  fs::path root_;
};

TEST_F(MachineTest, TwoThreadsOfACoreCountOnce) {
  WriteSiblings(0, "0,2");
  WriteSiblings(1, "1,3");
  WriteSiblings(2, "0,2");
  WriteSiblings(3, "1,3");
  EXPECT_EQ(CountPhysicalCores({0, 1, 2, 3}, root_), 2);
  EXPECT_EQ(CountPhysicalCores({0, 2}, root_), 1);
  EXPECT_EQ(CountPhysicalCores({2, 3}, root_), 2);
}

TEST_F(MachineTest, WithoutTopologyEveryProcessorCounts) {
  EXPECT_EQ(CountPhysicalCores({4, 5, 9}, root_), 3);
  EXPECT_EQ(CountPhysicalCores({}, root_), 1);
}

TEST_F(MachineTest, KeepsToTheControlGroupsQuota) {
  const struct {
    const char* quota;
    int want;
  } cases[] = {{"max 100000", 4},   {"200000 100000", 2}, {"250000 100000", 3},
               {"10000 100000", 1}, {"900000 100000", 4}, {"", 4},
               {"nonsense", 4},     {"0 100000", 4},      {"100000 0", 4}};
  for (const auto& c : cases) {
    Write("sys/fs/cgroup/cpu.max", std::string(c.quota) + "\n");
    EXPECT_EQ(CountPhysicalCores({0, 1, 2, 3}, root_), c.want) << c.quota;
  }
}

TEST_F(MachineTest, KeepsToTheQuotaOfEveryControlGroupAboveTheProcess) {
  Write("proc/self/cgroup", "0::/system.slice/sluice.service\n");
  Write("sys/fs/cgroup/system.slice/cpu.max", "300000 100000\n");
  EXPECT_EQ(CountPhysicalCores({0, 1, 2, 3}, root_), 3);
  Write("sys/fs/cgroup/system.slice/sluice.service/cpu.max", "200000 100000\n");
  EXPECT_EQ(CountPhysicalCores({0, 1, 2, 3}, root_), 2);
  Write("sys/fs/cgroup/cpu.max", "100000 100000\n");
  EXPECT_EQ(CountPhysicalCores({0, 1, 2, 3}, root_), 1);
}

TEST_F(MachineTest, NamesTheProcessor) {
  EXPECT_EQ(CpuName(root_), "unknown");
  Write("proc/cpuinfo", "processor\t: 0\nmodel name\t: A CPU @ 2.0: GHz \nflags\t: fpu\n");
  EXPECT_EQ(CpuName(root_), "A CPU @ 2.0: GHz");
}

TEST_F(MachineTest, AvailableMemoryIsTheLeastThatAnyoneLeaves) {
  const std::pair<std::string, std::string> meminfo = {
      "proc/meminfo", "MemTotal:  4096 kB\nMemAvailable:    1000 kB\nSwapFree: 1 kB"};
  const std::pair<std::string, std::string> v2 = {"proc/self/cgroup", "0::/a/b"};
  const std::pair<std::string, std::string> v1 = {"proc/self/cgroup", "4:memory:/a\n0::/"};
  const std::string group = "sys/fs/cgroup/";
  const std::string stat = "anon 5\ninactive_file 70\nactive_file 30\ntotal_inactive_file 7\n";
  const struct {
    const char* name;
    std::vector<std::pair<std::string, std::string>> files;
    int64_t want;
  } cases[] = {
      {"nothing known", {}, std::numeric_limits<int64_t>::max()},
      {"no groups", {meminfo}, 1024000},
      {"nonsense",
       {{"proc/meminfo", "MemAvailable: much\nMemAvailable:"}},
       std::numeric_limits<int64_t>::max()},
      {"container",
       {meminfo, {group + "memory.max", "5000"}, {group + "memory.current", "900"}},
       4100},
      {"no limit",
       {meminfo, {group + "memory.max", "max"}, {group + "memory.current", "900"}},
       1024000},
      {"page cache counts as left",
       {meminfo,
        {group + "memory.max", "5000"},
        {group + "memory.current", "900"},
        {group + "memory.stat", stat}},
       4200},
      {"more cache than usage",
       {meminfo,
        {group + "memory.max", "5000"},
        {group + "memory.current", "90"},
        {group + "memory.stat", stat}},
       5000},
      {"beyond the limit",
       {meminfo, {group + "memory.max", "5000"}, {group + "memory.current", "6000"}},
       0},
      {"memory.high",
       {meminfo,
        {group + "memory.max", "5000"},
        {group + "memory.high", "4000"},
        {group + "memory.current", "900"}},
       3100},
      {"a group above",
       {meminfo,
        v2,
        {group + "a/memory.max", "3000"},
        {group + "a/memory.current", "1000"},
        {group + "a/b/memory.max", "9000"},
        {group + "a/b/memory.current", "900"}},
       2000},
      {"own group",
       {meminfo,
        v2,
        {group + "a/memory.max", "30000"},
        {group + "a/memory.current", "1000"},
        {group + "a/b/memory.max", "9000"},
        {group + "a/b/memory.current", "900"}},
       8100},
      {"another's group", {meminfo, v2, {group + "c/memory.max", "1"}}, 1024000},
      {"version 1",
       {meminfo,
        v1,
        {group + "memory/a/memory.limit_in_bytes", "5000"},
        {group + "memory/a/memory.usage_in_bytes", "900"},
        {group + "memory/a/memory.stat", stat},
        {group + "memory/memory.limit_in_bytes", "9223372036854771712"}},
       4107},
  };
  for (const auto& c : cases) {
    for (const auto& [path, text] : c.files) Write(path, text + "\n");
    EXPECT_EQ(AvailableMemoryBytes(root_), c.want) << c.name;
    fs::remove_all(root_);
  }
}

TEST(CheckMemoryTest, RefusesWhatDoesNotFit) {
  const MemoryNeed need = {
      .weights = int64_t{5} << 30, .kv_cache = int64_t{1} << 30, .scratch = int64_t{1} << 29};
  const int64_t sum = need.weights + need.kv_cache + need.scratch;
  EXPECT_TRUE(CheckMemory(need, sum).ok());
  const absl::Status status = CheckMemory(need, sum - (1 << 29));
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  for (const char* part : {"6.50 GiB", "weights 5.00 GiB", "KV cache 1.00 GiB", "scratch 0.50 GiB",
                           "6.00 GiB are available"}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status << " lacks " << part;
  }
}

TEST(CheckMemoryTest, NamesTheFlagOfWhatIsLargest) {
  const struct {
    MemoryNeed need;
    const char* flag;
  } cases[] = {
      {{.weights = 5, .kv_cache = 3, .scratch = 1}, "--weights"},
      {{.weights = 5, .kv_cache = 6, .scratch = 1}, "--kv_cache_bytes"},
      {{.weights = 5, .kv_cache = 3, .scratch = 7}, "--max_step_tokens"},
  };
  for (const auto& c : cases) {
    const std::string message(CheckMemory(c.need, 1).message());
    EXPECT_NE(message.find(c.flag), std::string::npos) << message;
    EXPECT_EQ(message.find("--"), message.rfind("--")) << message;
  }
}

TEST_F(MachineTest, ThisMachineHasMemory) { EXPECT_GT(AvailableMemoryBytes(), 1 << 20); }

TEST_F(MachineTest, ThisMachineHasACore) {
  EXPECT_GE(UsablePhysicalCores(), 1);
  EXPECT_NE(CpuName(), "");
}

TEST_F(MachineTest, TheKvCacheMayHaveHalfOfWhatTheModelLeaves) {
  constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();
  const MemoryNeed need = {.weights = 600, .kv_cache = 12345, .scratch = 200};
  const struct {
    int64_t available;
    int64_t most_useful;
    int64_t want;
  } cases[] = {
      {1000, 1000, 100}, {1000, 70, 70}, {800, 1000, 0}, {500, 1000, 0}, {kUnknown, 1000, 0},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(AutoKvCacheBytes(need, c.available, c.most_useful), c.want) << c.available;
  }
}

}  // namespace
}  // namespace sluice::config
