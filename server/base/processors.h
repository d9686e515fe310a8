// Which processors the process may use, how they lie in physical cores, and which of them the
// threads of a pool should be pinned to.
#pragma once

#include <string>
#include <vector>

namespace sluice::base {

// A logical processor, numbered as the kernel does.
struct Processor {
  int id = 0;
  // The lowest id of the processors that share its physical core, whether the process may use that
  // one or not.
  int core = 0;
  // The socket.
  int package = 0;

  bool operator==(const Processor&) const = default;
};

// The ids that the process could use when this was first called, in ascending order: pinning a
// thread does not change the answer.
const std::vector<int>& AllowedProcessors();

// Where they lie. What the kernel does not tell is a core of its own in package 0. `root` stands in
// for the file system in tests.
std::vector<Processor> ReadTopology(const std::vector<int>& ids, const std::string& root = "");

// How many physical cores there are among `processors`.
int CountCores(const std::vector<Processor>& processors);

// The processor of each of num_threads threads: first one processor of every core, package by
// package, in ascending order; then, only if there are more threads than cores, every core's second
// processor, and so on. Empty if the threads had better not be pinned: if there are more of them
// than processors, or if `quota` (CpuQuota) is less than the processors, so that the kernel must be
// free to choose where the process waits.
std::vector<int> PlanPinning(const std::vector<Processor>& processors, double quota,
                             int num_threads);

// Lets the calling thread run on these processors only. Threads that it starts inherit that. What
// the kernel refuses leaves it as it was.
void PinThisThread(const std::vector<int>& ids);

}  // namespace sluice::base
