#include "config/machine.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "base/control_group.h"
#include "base/processors.h"

namespace sluice::config {

int CountPhysicalCores(const std::vector<int>& processors, const std::string& root) {
  const int cores = base::CountCores(base::ReadTopology(processors, root));
  const double quota = std::ceil(base::CpuQuota(root));
  return static_cast<int>(std::max(1.0, std::min(static_cast<double>(cores), quota)));
}

int UsablePhysicalCores() { return CountPhysicalCores(base::AllowedProcessors()); }

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
