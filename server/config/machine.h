// What this machine gives the process: cores, their name, and memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace sluice::config {

// The physical cores of `processors` (numbers as the kernel counts them; two threads of one core
// count once), but no more than the control group's CPU quota, rounded up; at least 1. `root`
// stands in for the file system in tests.
int CountPhysicalCores(const std::vector<int>& processors, const std::string& root = "");

// CountPhysicalCores of the processors that this process may run on.
int UsablePhysicalCores();

// The processor's name as the operating system gives it; "unknown" if it gives none.
std::string CpuName(const std::string& root = "");

// What the process can still take without swapping or being killed: what the kernel calls
// available, but no more than is left of the limit of any control group that the process is in,
// where page cache that can be dropped counts as left. The largest number if nothing is known.
int64_t AvailableMemoryBytes(const std::string& root = "");

// In bytes.
struct MemoryNeed {
  int64_t weights = 0;
  int64_t kv_cache = 0;
  int64_t scratch = 0;
};

// How large a KV cache --kv_cache_bytes=auto is: half of what weights and scratch leave of
// `available_bytes`, but no more than `most_useful_bytes`; the other half is for the page cache,
// for gRPC and for whatever else runs in the container. `need.kv_cache` does not count. 0 if
// nothing is left, or nothing is known of the memory.
int64_t AutoKvCacheBytes(const MemoryNeed& need, int64_t available_bytes,
                         int64_t most_useful_bytes);

// RESOURCE_EXHAUSTED if the need is more than what is available; the message names all of it, and
// the flags that help.
absl::Status CheckMemory(const MemoryNeed& need, int64_t available_bytes);

}  // namespace sluice::config
