// What Linux control groups (cgroups, versions 1 and 2) let the process use: where its groups'
// files are, and its share of the processors.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace sluice::base {

struct ControlGroup {
  // With the files of this group, such as "/sys/fs/cgroup/system.slice/sluice.service".
  std::string folder;
  int version;  // 1 or 2
};

// The process's group of `controller` ("cpu", "memory") and every group above it, in no particular
// order, for both versions; folders may not exist. In a container, whose own group is the root of
// what it sees, only that root does. `root` stands in for the file system in tests.
std::vector<ControlGroup> ControlGroupsOf(absl::string_view controller,
                                          const std::string& root = "");

// How many processors the process may use at once on average, such as 2.5: the least quota of its
// group and those above; infinity if there is none.
double CpuQuota(const std::string& root = "");

// The first line of a file, without the line's end; "" if there is none.
std::string FirstLineOf(const std::string& path);

}  // namespace sluice::base
