#include "base/processors.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <thread>
#include <vector>

namespace sluice::base {
namespace {

namespace fs = std::filesystem;

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

// (id, core, package)
const std::vector<Processor> kInterleaved = {{0, 0, 0}, {1, 1, 0}, {2, 2, 0},
                                             {3, 0, 0}, {4, 1, 0}, {5, 2, 0}};
const std::vector<Processor> kAdjacent = {{0, 0, 0}, {1, 0, 0}, {2, 2, 0},
                                          {3, 2, 0}, {4, 4, 0}, {5, 4, 0}};
const std::vector<Processor> kTwoSockets = {{0, 0, 0}, {1, 1, 1}, {2, 2, 0}, {3, 3, 1},
                                            {4, 0, 0}, {5, 1, 1}, {6, 2, 0}, {7, 3, 1}};
// Some of kAdjacent: the first processor of core 2 is not ours, nor is core 4.
const std::vector<Processor> kRestricted = {{0, 0, 0}, {1, 0, 0}, {3, 2, 0}};
const std::vector<Processor> kNoSmt = {{7, 7, 0}, {4, 4, 0}, {9, 9, 0}};

TEST(PlanPinningTest, TakesEveryCoreOnceAndThenTheSiblings) {
  const struct {
    const char* name;
    const std::vector<Processor>& processors;
    double quota;
    int num_threads;
    std::vector<int> want;
  } cases[] = {
      {"interleaved", kInterleaved, kNoQuota, 3, {0, 1, 2}},
      {"interleaved, all", kInterleaved, kNoQuota, 6, {0, 1, 2, 3, 4, 5}},
      {"adjacent", kAdjacent, kNoQuota, 3, {0, 2, 4}},
      {"adjacent, one too many", kAdjacent, kNoQuota, 4, {0, 2, 4, 1}},
      {"two sockets, one each", kTwoSockets, kNoQuota, 2, {0, 2}},
      {"two sockets", kTwoSockets, kNoQuota, 4, {0, 2, 1, 3}},
      {"two sockets, all", kTwoSockets, kNoQuota, 8, {0, 2, 1, 3, 4, 6, 5, 7}},
      {"restricted", kRestricted, kNoQuota, 2, {0, 3}},
      {"restricted, all", kRestricted, kNoQuota, 3, {0, 3, 1}},
      {"in any order", kNoSmt, kNoQuota, 2, {4, 7}},
      {"more threads than processors", kNoSmt, kNoQuota, 4, {}},
      {"quota enough", kNoSmt, 3, 3, {4, 7, 9}},
      {"quota too small", kNoSmt, 2.5, 2, {}},
      {"nothing known", {}, kNoQuota, 1, {}},
  };
  for (const auto& c : cases)
    EXPECT_EQ(PlanPinning(c.processors, c.quota, c.num_threads), c.want) << c.name;
}

TEST(ProcessorsTest, CountsCores) {
  EXPECT_EQ(CountCores(kInterleaved), 3);
  EXPECT_EQ(CountCores(kAdjacent), 3);
  EXPECT_EQ(CountCores(kTwoSockets), 4);
  EXPECT_EQ(CountCores(kRestricted), 2);
  EXPECT_EQ(CountCores({}), 0);
}

TEST(ProcessorsTest, ReadsTheTopology) {
  const fs::path root = fs::path(testing::TempDir()) / ("processors-" + std::to_string(getpid()));
  const auto write = [&](int id, const std::string& file, const std::string& text) {
    const fs::path folder =
        root / "sys/devices/system/cpu" / ("cpu" + std::to_string(id)) / "topology";
    fs::create_directories(folder);
    std::ofstream(folder / file) << text << "\n";
  };
  write(0, "thread_siblings_list", "0,64");
  write(0, "physical_package_id", "0");
  write(3, "thread_siblings_list", "2-3");
  write(3, "physical_package_id", "1");
  write(64, "thread_siblings_list", "0,64");
  write(64, "physical_package_id", "0");
  // A virtual machine without sockets says -1.
  write(7, "physical_package_id", "-1");
  const std::vector<Processor> want = {{0, 0, 0}, {3, 2, 1}, {7, 7, 0}, {8, 8, 0}, {64, 0, 0}};
  EXPECT_EQ(ReadTopology({0, 3, 7, 8, 64}, root), want);
  fs::remove_all(root);
}

TEST(ProcessorsTest, PinningAThreadKeepsItThereAndChangesNoOther) {
  const std::vector<int> allowed = AllowedProcessors();
  ASSERT_FALSE(allowed.empty());
  EXPECT_TRUE(std::is_sorted(allowed.begin(), allowed.end()));
  std::thread([&] {
    PinThisThread({allowed.back()});
    EXPECT_EQ(sched_getcpu(), allowed.back());
    EXPECT_EQ(AllowedProcessors(), allowed);
    PinThisThread(allowed);
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
      EXPECT_EQ(CPU_COUNT(&set), static_cast<int>(allowed.size()));
    }
  }).join();
}

}  // namespace
}  // namespace sluice::base
