// ReadBandwidth: how fast this machine reads memory, measured again and again between other
// measurements, because on a shared machine it changes.
#pragma once

#include <cstdint>

#include "base/mapped_memory.h"
#include "base/thread_pool.h"

namespace sluice::bench {

// Used by one thread.
class ReadBandwidth {
 public:
  // At least 512 MiB and eight times the last-level cache.
  static int64_t DefaultBytes();

  // Allocates a buffer of `bytes` (rounded up to 1 MiB), in large pages where the system gives
  // them. `pool` outlives this.
  ReadBandwidth(base::ThreadPool& pool, int64_t bytes);

  // Bytes per second when all threads of the pool read the buffer together, once through, with the
  // widest loads that the processor has: the best of a few passes. Takes about a tenth of a second.
  double Measure();

 private:
  base::ThreadPool& pool_;
  const int64_t num_chunks_;
  base::MappedMemory buffer_;
};

}  // namespace sluice::bench
