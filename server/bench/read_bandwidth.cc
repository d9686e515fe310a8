#include "bench/read_bandwidth.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "base/check.h"

namespace sluice::bench {
namespace {

// What a thread reads before it asks for more.
constexpr int64_t kChunkBytes = 1 << 20;
constexpr int kPasses = 5;
constexpr uint64_t kFirst = 1;
constexpr uint64_t kSecond = 2;

template <typename Vector>
__attribute__((always_inline)) inline uint64_t Sum(const std::byte* chunk) {
  const auto* data = reinterpret_cast<const Vector*>(chunk);
  Vector a{}, b{}, c{}, d{};
  for (size_t i = 0; i < kChunkBytes / sizeof(Vector); i += 4) {
    a += data[i];
    b += data[i + 1];
    c += data[i + 2];
    d += data[i + 3];
  }
  a += b + c + d;
  uint64_t sum = 0;
  for (size_t i = 0; i < sizeof(Vector) / sizeof(uint64_t); ++i) sum += a[i];
  return sum;
}

using Vector16 = uint64_t __attribute__((vector_size(16)));
using Vector32 = uint64_t __attribute__((vector_size(32)));
using Vector64 = uint64_t __attribute__((vector_size(64)));

uint64_t SumSse2(const std::byte* chunk) { return Sum<Vector16>(chunk); }
__attribute__((target("avx2"))) uint64_t SumAvx2(const std::byte* chunk) {
  return Sum<Vector32>(chunk);
}
__attribute__((target("avx512f"))) uint64_t SumAvx512(const std::byte* chunk) {
  return Sum<Vector64>(chunk);
}

auto ChooseSum() {
  if (__builtin_cpu_supports("avx512f")) return SumAvx512;
  if (__builtin_cpu_supports("avx2")) return SumAvx2;
  return SumSse2;
}

base::MappedMemory ReserveBuffer(int64_t bytes) {
  auto buffer = base::MappedMemory::Reserve(bytes, base::MappedMemory::Pages::kHuge);
  CHECK(buffer.ok());
  return *std::move(buffer);
}

}  // namespace

int64_t ReadBandwidth::DefaultBytes() {
  const int64_t last_level_cache =
      std::max({sysconf(_SC_LEVEL2_CACHE_SIZE), sysconf(_SC_LEVEL3_CACHE_SIZE), 0L});
  return std::max(int64_t{512} << 20, 8 * last_level_cache);
}

ReadBandwidth::ReadBandwidth(base::ThreadPool& pool, int64_t bytes)
    : pool_(pool),
      num_chunks_(std::max<int64_t>(1, (bytes + kChunkBytes - 1) / kChunkBytes)),
      buffer_(ReserveBuffer(num_chunks_ * kChunkBytes)) {
  // Written by the thread that may read it, so that its pages lie near.
  pool_.ParallelFor(num_chunks_, [&](int64_t chunk, int) {
    std::fill_n(reinterpret_cast<Vector16*>(buffer_.data() + chunk * kChunkBytes),
                kChunkBytes / sizeof(Vector16), Vector16{kFirst, kSecond});
  });
}

double ReadBandwidth::Measure() {
  const auto sum = ChooseSum();
  std::atomic<uint64_t> total{0};
  double best_seconds = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool_.ParallelFor(num_chunks_, [&](int64_t chunk, int) {
      total.fetch_add(sum(buffer_.data() + chunk * kChunkBytes), std::memory_order_relaxed);
    });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    if (pass == 0 || time.count() < best_seconds) best_seconds = time.count();
  }
  // Proof that every byte was read in every pass; and without a use of the sums the compiler would
  // leave the reading out.
  const uint64_t chunk_sum = kChunkBytes / sizeof(Vector16) * (kFirst + kSecond);
  CHECK(total.load() == static_cast<uint64_t>(num_chunks_) * chunk_sum * kPasses);
  return static_cast<double>(num_chunks_ * kChunkBytes) / best_seconds;
}

}  // namespace sluice::bench
