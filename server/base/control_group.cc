#include "base/control_group.h"

#include <algorithm>
#include <fstream>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace sluice::base {
namespace {

// `mount` and every group below it on the way to `path`, such as "/a/b".
void AddGroups(const std::string& mount, std::string path, int version,
               std::vector<ControlGroup>& groups) {
  groups.push_back({mount, version});
  for (; path.size() > 1 && path[0] == '/'; path.erase(path.rfind('/')))
    groups.push_back({mount + path, version});
}

double Ratio(absl::string_view quota, absl::string_view period) {
  double q = 0;
  double p = 0;
  if (!absl::SimpleAtod(quota, &q) || !absl::SimpleAtod(period, &p) || !(q > 0) || !(p > 0))
    return std::numeric_limits<double>::infinity();
  return q / p;
}

// Version 2 writes "quota period" in microseconds, or "max period"; version 1 writes one file each,
// and -1 for no quota.
double QuotaOf(const ControlGroup& group) {
  if (group.version == 1) {
    return Ratio(FirstLineOf(group.folder + "/cpu.cfs_quota_us"),
                 FirstLineOf(group.folder + "/cpu.cfs_period_us"));
  }
  const std::vector<std::string> words =
      absl::StrSplit(FirstLineOf(group.folder + "/cpu.max"), ' ');
  return words.size() == 2 ? Ratio(words[0], words[1]) : std::numeric_limits<double>::infinity();
}

}  // namespace

std::string FirstLineOf(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<ControlGroup> ControlGroupsOf(absl::string_view controller, const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  std::string path_v2;
  std::string path_v1;
  // "4:cpu,cpuacct:/a/b" for version 1, "0::/a/b" for version 2.
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    if (fields[0] == "0" && fields[1].empty()) path_v2 = fields[2];
    for (const absl::string_view name : absl::StrSplit(fields[1], ',')) {
      if (name == controller) path_v1 = fields[2];
    }
  }
  std::vector<ControlGroup> groups;
  AddGroups(mount, path_v2, 2, groups);
  // Where several controllers of version 1 are mounted together, each name is a link.
  AddGroups(absl::StrCat(mount, "/", controller), path_v1, 1, groups);
  return groups;
}

double CpuQuota(const std::string& root) {
  double least = std::numeric_limits<double>::infinity();
  for (const ControlGroup& group : ControlGroupsOf("cpu", root))
    least = std::min(least, QuotaOf(group));
  return least;
}

}  // namespace sluice::base
