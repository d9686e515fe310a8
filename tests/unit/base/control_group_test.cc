#include "base/control_group.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace sluice::base {
namespace {

namespace fs = std::filesystem;

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

// (path, text) of files below a folder that stands in for the root of the file system.
using Files = std::vector<std::pair<std::string, std::string>>;

double QuotaWith(const Files& files) {
  const fs::path root = fs::path(testing::TempDir()) / ("groups-" + std::to_string(getpid()));
  for (const auto& [path, text] : files) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text << "\n";
  }
  const double quota = CpuQuota(root);
  fs::remove_all(root);
  return quota;
}

TEST(ControlGroupTest, TheLeastQuotaCounts) {
  const std::pair<std::string, std::string> in_service = {"proc/self/cgroup", "0::/a/b"};
  const std::pair<std::string, std::string> in_v1 = {
      "proc/self/cgroup", "12:memory:/m\n4:cpu,cpuacct:/a/b\n1:name=systemd:/s\n0::/"};
  const struct {
    const char* name;
    Files files;
    double want;
  } cases[] = {
      {"no groups", {}, kNoQuota},
      {"container", {{"sys/fs/cgroup/cpu.max", "250000 100000"}}, 2.5},
      {"no limit", {{"sys/fs/cgroup/cpu.max", "max 100000"}}, kNoQuota},
      {"own group", {in_service, {"sys/fs/cgroup/a/b/cpu.max", "100000 50000"}}, 2},
      {"group above",
       {in_service,
        {"sys/fs/cgroup/a/cpu.max", "50000 100000"},
        {"sys/fs/cgroup/a/b/cpu.max", "100000 50000"}},
       0.5},
      {"another's group", {in_service, {"sys/fs/cgroup/c/cpu.max", "1000 100000"}}, kNoQuota},
      {"version 1, container",
       {{"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000"},
        {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"}},
       1.5},
      {"version 1, no limit",
       {{"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1"},
        {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"}},
       kNoQuota},
      {"version 1, own group and above",
       {in_v1,
        {"sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "400000"},
        {"sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000"},
        {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "300000"},
        {"sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000"}},
       3},
      {"nonsense", {{"sys/fs/cgroup/cpu.max", "1 2 3"}, {"proc/self/cgroup", "0:"}}, kNoQuota},
  };
  for (const auto& c : cases) EXPECT_EQ(QuotaWith(c.files), c.want) << c.name;
}

TEST(ControlGroupTest, NamesTheWholePathOfBothVersions) {
  const fs::path root = fs::path(testing::TempDir()) / ("paths-" + std::to_string(getpid()));
  fs::create_directories(root / "proc/self");
  std::ofstream(root / "proc/self/cgroup") << "4:memory:/x\n3:cpu:/\n0::/a/b\n";
  std::vector<std::pair<std::string, int>> folders;
  for (const ControlGroup& group : ControlGroupsOf("memory", root))
    folders.emplace_back(group.folder.substr(root.string().size()), group.version);
  const std::vector<std::pair<std::string, int>> want = {{"/sys/fs/cgroup", 2},
                                                         {"/sys/fs/cgroup/a/b", 2},
                                                         {"/sys/fs/cgroup/a", 2},
                                                         {"/sys/fs/cgroup/memory", 1},
                                                         {"/sys/fs/cgroup/memory/x", 1}};
  EXPECT_EQ(folders, want);
  fs::remove_all(root);
}

}  // namespace
}  // namespace sluice::base
