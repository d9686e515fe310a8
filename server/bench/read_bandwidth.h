// How fast this machine reads memory, measured now.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace sluice::bench {

// Bytes that are read in a measurement: at least 512 MiB and eight times the last-level cache.
int64_t ReadBandwidthBytes();

// Bytes per second when all threads of `pool` read a buffer of `bytes` together, once through: the
// best of a few passes. Takes some tenths of a second and `bytes` of memory.
double MeasureReadBandwidth(base::ThreadPool& pool, int64_t bytes);

}  // namespace sluice::bench
