#include "bench/read_bandwidth.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>

namespace sluice::bench {
namespace {

// Sixteen bytes: what every x86-64 processor loads at once.
using Vector = uint64_t __attribute__((vector_size(16)));
// What a thread reads before it asks for more, in vectors: 1 MiB.
constexpr int64_t kChunk = (1 << 20) / sizeof(Vector);
constexpr int kPasses = 5;

uint64_t Sum(const Vector* data, int64_t count) {
  Vector a{}, b{}, c{}, d{};
  for (int64_t i = 0; i + 4 <= count; i += 4) {
    a += data[i];
    b += data[i + 1];
    c += data[i + 2];
    d += data[i + 3];
  }
  a += b + c + d;
  return a[0] + a[1];
}

}  // namespace

int64_t ReadBandwidthBytes() {
  const int64_t last_level_cache =
      std::max({sysconf(_SC_LEVEL2_CACHE_SIZE), sysconf(_SC_LEVEL3_CACHE_SIZE), 0L});
  return std::max(int64_t{512} << 20, 8 * last_level_cache);
}

double MeasureReadBandwidth(base::ThreadPool& pool, int64_t bytes) {
  const int64_t num_chunks =
      std::max<int64_t>(1, bytes / (kChunk * static_cast<int64_t>(sizeof(Vector))));
  const auto buffer = std::make_unique_for_overwrite<Vector[]>(num_chunks * kChunk);
  // Written by the thread that may read it, so that its pages lie near.
  pool.ParallelFor(num_chunks, [&](int64_t chunk, int) {
    std::fill_n(buffer.get() + chunk * kChunk, kChunk, Vector{1, 2});
  });
  std::atomic<uint64_t> total{0};
  double best_seconds = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool.ParallelFor(num_chunks, [&](int64_t chunk, int) {
      total.fetch_add(Sum(buffer.get() + chunk * kChunk, kChunk), std::memory_order_relaxed);
    });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    if (pass == 0 || time.count() < best_seconds) best_seconds = time.count();
  }
  // The sums are used, or the compiler would leave the reading out.
  const auto expected = static_cast<uint64_t>(num_chunks * kChunk) * 3 * kPasses;
  if (total.load() != expected) return 0;
  return static_cast<double>(num_chunks * kChunk) * sizeof(Vector) / best_seconds;
}

}  // namespace sluice::bench
