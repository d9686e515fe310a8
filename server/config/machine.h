// What this machine gives the process: cores and their name.
#pragma once

#include <string>
#include <vector>

namespace sluice::config {

// The physical cores of `processors` (numbers as the kernel counts them; two threads of one core
// count once), but no more than the control group's CPU quota, rounded up; at least 1. `root`
// stands in for the file system in tests.
int CountPhysicalCores(const std::vector<int>& processors, const std::string& root = "");

// CountPhysicalCores of the processors that this process may run on.
int UsablePhysicalCores();

// The processor's name as the operating system gives it; "unknown" if it gives none.
std::string CpuName(const std::string& root = "");

}  // namespace sluice::config
