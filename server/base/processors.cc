#include "base/processors.h"

#include <sched.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <tuple>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/control_group.h"

namespace sluice::base {
namespace {

// More processors than any kernel is built for.
constexpr int kMaxProcessors = 1 << 16;

struct FreeCpuSet {
  void operator()(cpu_set_t* set) const { CPU_FREE(set); }
};
using CpuSet = std::unique_ptr<cpu_set_t, FreeCpuSet>;

std::vector<int> AskKernel() {
  std::vector<int> ids;
  // The kernel refuses a set that is smaller than its own.
  for (int size = CPU_SETSIZE; size <= kMaxProcessors; size *= 2) {
    const CpuSet set(CPU_ALLOC(size));
    const size_t bytes = CPU_ALLOC_SIZE(size);
    CPU_ZERO_S(bytes, set.get());
    if (sched_getaffinity(0, bytes, set.get()) != 0) continue;
    for (int id = 0; id < size; ++id) {
      if (CPU_ISSET_S(id, bytes, set.get())) ids.push_back(id);
    }
    return ids;
  }
  for (unsigned id = 0; id < std::thread::hardware_concurrency(); ++id)
    ids.push_back(static_cast<int>(id));
  return ids;
}

// The number at the start of a file such as "0-1" or "0,64"; `otherwise` if there is none.
int LeadingNumber(const std::string& path, int otherwise) {
  const std::string line = FirstLineOf(path);
  int number = 0;
  const absl::string_view digits =
      absl::string_view(line).substr(0, line.find_first_not_of("0123456789"));
  return absl::SimpleAtoi(digits, &number) ? number : otherwise;
}

}  // namespace

const std::vector<int>& AllowedProcessors() {
  static const std::vector<int>* const ids = new std::vector<int>(AskKernel());
  return *ids;
}

std::vector<Processor> ReadTopology(const std::vector<int>& ids, const std::string& root) {
  std::vector<Processor> processors;
  for (const int id : ids) {
    const std::string folder = absl::StrCat(root, "/sys/devices/system/cpu/cpu", id, "/topology/");
    processors.push_back({.id = id,
                          .core = LeadingNumber(folder + "thread_siblings_list", id),
                          .package = LeadingNumber(folder + "physical_package_id", 0)});
  }
  return processors;
}

int CountCores(const std::vector<Processor>& processors) {
  std::set<int> cores;
  for (const Processor& processor : processors) cores.insert(processor.core);
  return static_cast<int>(cores.size());
}

std::vector<int> PlanPinning(const std::vector<Processor>& processors, double quota,
                             int num_threads) {
  if (static_cast<size_t>(num_threads) > processors.size() ||
      quota < static_cast<double>(processors.size())) {
    return {};
  }
  std::vector<Processor> sorted = processors;
  std::sort(sorted.begin(), sorted.end(),
            [](const Processor& a, const Processor& b) { return a.id < b.id; });
  // (which processor of its core, package, core, id)
  std::vector<std::tuple<int, int, int, int>> order;
  std::map<int, int> seen;
  for (const Processor& p : sorted) order.emplace_back(seen[p.core]++, p.package, p.core, p.id);
  std::sort(order.begin(), order.end());
  std::vector<int> pins;
  for (int i = 0; i < num_threads; ++i) pins.push_back(std::get<3>(order[i]));
  return pins;
}

void PinThisThread(const std::vector<int>& ids) {
  if (ids.empty()) return;
  const int size = *std::max_element(ids.begin(), ids.end()) + 1;
  const CpuSet set(CPU_ALLOC(size));
  const size_t bytes = CPU_ALLOC_SIZE(size);
  CPU_ZERO_S(bytes, set.get());
  for (const int id : ids) CPU_SET_S(id, bytes, set.get());
  sched_setaffinity(0, bytes, set.get());
}

}  // namespace sluice::base
