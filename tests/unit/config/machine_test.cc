#include "config/machine.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

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

TEST_F(MachineTest, ThisMachineHasACore) {
  EXPECT_GE(UsablePhysicalCores(), 1);
  EXPECT_NE(CpuName(), "");
}

}  // namespace
}  // namespace sluice::config
