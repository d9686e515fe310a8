#include "metrics/process_collector.h"

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace sluice::metrics {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The fields of /proc/self/stat that follow the command's name, which may itself contain spaces and
// parentheses; the first is the state, field 3 of proc(5).
std::vector<std::string> StatFields(const std::string& stat) {
  const size_t end = stat.rfind(')');
  if (end == std::string::npos) return {};
  return absl::StrSplit(stat.substr(end + 1), absl::ByAnyChar(" \n"), absl::SkipEmpty());
}

// `field` as proc(5) numbers it.
std::optional<double> StatField(const std::vector<std::string>& fields, size_t field) {
  const size_t index = field - 3;
  double value = 0;
  if (index >= fields.size() || !absl::SimpleAtod(fields[index], &value)) return std::nullopt;
  return value;
}

// Seconds since the epoch at which the machine started.
std::optional<double> BootTime(const std::string& proc) {
  const std::string stat = ReadFile(proc + "/stat");
  for (absl::string_view line : absl::StrSplit(stat, '\n')) {
    double value = 0;
    if (absl::StartsWith(line, "btime ") && absl::SimpleAtod(line.substr(6), &value)) return value;
  }
  return std::nullopt;
}

std::optional<double> OpenFds(const std::string& proc) {
  std::error_code error;
  int64_t count = 0;
  std::filesystem::directory_iterator it(proc + "/self/fd", error);
  if (error) return std::nullopt;
  for (; it != std::filesystem::directory_iterator(); it.increment(error)) {
    if (error) return std::nullopt;
    ++count;
  }
  // The one that reads the folder is not the process's.
  return static_cast<double>(count - 1);
}

std::optional<double> MaxFds(const std::string& proc) {
  const std::string limits = ReadFile(proc + "/self/limits");
  constexpr absl::string_view kName = "Max open files";
  for (absl::string_view line : absl::StrSplit(limits, '\n')) {
    if (!absl::StartsWith(line, kName)) continue;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line.substr(kName.size()), ' ', absl::SkipEmpty());
    double value = 0;
    if (!words.empty() && absl::SimpleAtod(words[0], &value)) return value;
  }
  return std::nullopt;
}

void Add(const char* name, const char* help, MetricType type, std::optional<double> value,
         std::vector<MetricFamily>& families) {
  if (!value.has_value()) return;
  MetricFamily& family =
      families.emplace_back(MetricFamily{.name = name, .help = help, .type = type});
  prometheus::ClientMetric& metric = family.metric.emplace_back();
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = *value;
}

}  // namespace

std::vector<MetricFamily> CollectProcess(const std::string& proc) {
  const std::vector<std::string> stat = StatFields(ReadFile(proc + "/self/stat"));
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  const std::optional<double> user = StatField(stat, 14);
  const std::optional<double> system = StatField(stat, 15);
  const std::optional<double> start = StatField(stat, 22);
  const std::optional<double> resident_pages = StatField(stat, 24);
  const std::optional<double> boot = BootTime(proc);

  std::optional<double> cpu;
  if (user && system) cpu = (*user + *system) / ticks;
  std::optional<double> start_time;
  if (start && boot) start_time = *boot + *start / ticks;
  std::optional<double> resident;
  if (resident_pages) resident = *resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));

  std::vector<MetricFamily> families;
  Add("process_cpu_seconds_total", "CPU time that the process has used, user and system together.",
      MetricType::Counter, cpu, families);
  Add("process_open_fds", "File descriptors that the process holds open.", MetricType::Gauge,
      OpenFds(proc), families);
  Add("process_max_fds", "File descriptors that the process may hold open.", MetricType::Gauge,
      MaxFds(proc), families);
  Add("process_virtual_memory_bytes", "Address space that the process has mapped.",
      MetricType::Gauge, StatField(stat, 23), families);
  Add("process_resident_memory_bytes",
      "Memory of the process that is in RAM, mapped weights among it.", MetricType::Gauge, resident,
      families);
  Add("process_start_time_seconds", "When the process started, in seconds since the Unix epoch.",
      MetricType::Gauge, start_time, families);
  return families;
}

}  // namespace sluice::metrics
