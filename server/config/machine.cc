#include "config/machine.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/control_group.h"
#include "base/processors.h"

namespace sluice::config {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

// Files of one number: bytes; "max" and what is not there are none.
std::optional<int64_t> NumberIn(const std::string& path) {
  int64_t number = 0;
  if (!absl::SimpleAtoi(base::FirstLineOf(path), &number) || number < 0) return std::nullopt;
  return number;
}

// The number behind `name` (such as "MemAvailable:") in a file of lines "name number ...".
std::optional<int64_t> FieldIn(const std::string& path, absl::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t number = 0;
    if (words.size() >= 2 && words[0] == name && absl::SimpleAtoi(words[1], &number) && number >= 0)
      return number;
  }
  return std::nullopt;
}

// What is left of a group's limit.
int64_t LeftIn(const base::ControlGroup& group) {
  const std::string folder = group.folder + "/";
  const bool v1 = group.version == 1;
  int64_t limit = kUnknown;
  // Beyond memory.high a group is slowed down until it stands still.
  for (const char* file : {"memory.max", "memory.high", "memory.limit_in_bytes"})
    limit = std::min(limit, NumberIn(folder + file).value_or(kUnknown));
  // Version 1 has no word for "no limit" but a number beyond any memory.
  if (limit >= int64_t{1} << 60) return kUnknown;
  const int64_t used =
      NumberIn(folder + (v1 ? "memory.usage_in_bytes" : "memory.current")).value_or(0);
  // With the groups below it, as the usage is.
  const std::string prefix = v1 ? "total_" : "";
  const int64_t cache = FieldIn(folder + "memory.stat", prefix + "inactive_file").value_or(0) +
                        FieldIn(folder + "memory.stat", prefix + "active_file").value_or(0);
  return std::max<int64_t>(0, limit - std::max<int64_t>(0, used - cache));
}

std::string Gib(int64_t bytes) {
  return absl::StrFormat("%.2f GiB", static_cast<double>(bytes) / static_cast<double>(1 << 30));
}

}  // namespace

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

int64_t AvailableMemoryBytes(const std::string& root) {
  int64_t available = kUnknown;
  const auto kib = FieldIn(root + "/proc/meminfo", "MemAvailable:");
  if (kib.has_value() && *kib < kUnknown / 1024) available = *kib * 1024;
  for (const base::ControlGroup& group : base::ControlGroupsOf("memory", root))
    available = std::min(available, LeftIn(group));
  return available;
}

int64_t AutoKvCacheBytes(const MemoryNeed& need, int64_t available_bytes,
                         int64_t most_useful_bytes) {
  if (available_bytes == kUnknown) return 0;
  const int64_t left = std::max<int64_t>(0, available_bytes - need.weights - need.scratch);
  return std::min(left / 2, most_useful_bytes);
}

absl::Status CheckMemory(const MemoryNeed& need, int64_t available_bytes) {
  const int64_t sum = need.weights + need.kv_cache + need.scratch;
  if (sum <= available_bytes) return absl::OkStatus();
  const char* advice = "smaller weights are those of --weights=int8 and, smaller still, int4";
  if (need.kv_cache >= std::max(need.weights, need.scratch)) {
    advice = "a lower --kv_cache_bytes helps most";
  } else if (need.scratch > need.weights) {
    advice = "a lower --max_step_tokens helps most";
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("the model needs ", Gib(sum), " of memory (weights ", Gib(need.weights),
                   ", KV cache ", Gib(need.kv_cache), ", scratch ", Gib(need.scratch), "), but ",
                   Gib(available_bytes), " are available; ", advice));
}

}  // namespace sluice::config
