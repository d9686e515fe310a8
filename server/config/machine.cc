#include "config/machine.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace sluice::config {
namespace {

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// CPUs that the control group may use at once: cpu.max holds "quota period" in microseconds, or
// "max period" if there is no limit.
double CpuQuotaOf(const std::string& group) {
  const std::vector<std::string> words = absl::StrSplit(FirstLine(group + "/cpu.max"), ' ');
  double quota = 0;
  double period = 0;
  if (words.size() != 2 || !absl::SimpleAtod(words[0], &quota) ||
      !absl::SimpleAtod(words[1], &period) || !(quota > 0) || !(period > 0)) {
    return HUGE_VAL;
  }
  return quota / period;
}

// The least quota of the process's control group and those above it. In a container, whose own
// group is the root of what it sees, that is one; a service's is some way down.
double CpuQuota(const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  double least = CpuQuotaOf(mount);
  std::string path = FirstLine(root + "/proc/self/cgroup");
  if (!absl::StartsWith(path, "0::/")) return least;
  for (path.erase(0, 3); path.size() > 1; path.erase(path.rfind('/'))) {
    least = std::min(least, CpuQuotaOf(mount + path));
  }
  return least;
}

std::vector<int> UsableProcessors() {
  std::vector<int> processors;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &set)) processors.push_back(i);
    }
  } else {
    // More processors than the set has places for.
    for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) {
      processors.push_back(static_cast<int>(i));
    }
  }
  return processors;
}

}  // namespace

int CountPhysicalCores(const std::vector<int>& processors, const std::string& root) {
  // Processors of one core name the same siblings, such as "0,64" or "0-1".
  std::set<std::string> cores;
  for (const int processor : processors) {
    std::string siblings = FirstLine(absl::StrCat(root, "/sys/devices/system/cpu/cpu", processor,
                                                  "/topology/thread_siblings_list"));
    if (siblings.empty()) siblings = absl::StrCat(processor);
    cores.insert(std::move(siblings));
  }
  const double quota = std::ceil(CpuQuota(root));
  return static_cast<int>(std::max(1.0, std::min(static_cast<double>(cores.size()), quota)));
}

int UsablePhysicalCores() { return CountPhysicalCores(UsableProcessors()); }

std::string CpuName(const std::string& root) {
  std::ifstream file(root + "/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, "model name")) continue;
    const size_t colon = line.find(':');
    if (colon != std::string::npos) {
      return std::string(absl::StripAsciiWhitespace(absl::string_view(line).substr(colon + 1)));
    }
  }
  return "unknown";
}

}  // namespace sluice::config
