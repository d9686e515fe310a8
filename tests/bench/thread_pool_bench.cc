// BM_ThreadPool_*: what it costs to hand work to other threads.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/mapped_memory.h"
#include "base/thread_pool.h"

namespace sluice {
namespace {

// A fork of range(0) indices with nothing to do, on range(1) threads, again and again.
void BM_ThreadPool_Fork(benchmark::State& state) {
  base::ThreadPool pool({.num_threads = static_cast<int>(state.range(1)), .pin = true});
  for (auto _ : state) {
    pool.ParallelFor(state.range(0), [](int64_t i, int) { benchmark::DoNotOptimize(i); });
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_ThreadPool_Fork)
    ->ArgNames({"indices", "threads"})
    ->ArgsProduct({{2, 8, 64}, {2, 4}})
    ->UseRealTime();

void Spin(std::chrono::nanoseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

// Forks of eight indices that take range(0) microseconds each, with as long a pause between two
// forks; ideal_seconds is what that takes if handing out costs nothing.
void BM_ThreadPool_BusyFork(benchmark::State& state) {
  base::ThreadPool pool({.num_threads = static_cast<int>(state.range(1)), .pin = true});
  pool.PinCaller();
  const std::chrono::microseconds time(state.range(0));
  for (auto _ : state) {
    pool.ParallelFor(8, [&](int64_t, int) { Spin(time); });
    Spin(time);
  }
  const double ideal =
      1e-6 * static_cast<double>(state.range(0)) * (1 + 8.0 / static_cast<double>(state.range(1)));
  state.counters["ideal_seconds"] = ideal;
}
BENCHMARK(BM_ThreadPool_BusyFork)
    ->ArgNames({"microseconds", "threads"})
    ->ArgsProduct({{1, 10, 100}, {2}})
    ->UseRealTime();

// Reading memory on two threads as a decode step does, and computing nothing: forks of range(0) MiB
// with range(3) microseconds between them, in range(1) indices that lie side by side, handed out in
// turn or in stretches.
void BM_ThreadPool_Read(benchmark::State& state) {
  constexpr int64_t kMemoryBytes = int64_t{512} << 20;
  const int64_t fork_bytes = state.range(0) << 20;
  const int64_t num_indices = state.range(1);
  const bool stretches = state.range(2) != 0;
  const std::chrono::microseconds between(state.range(3));
  base::ThreadPool pool({.num_threads = 2, .pin = true});
  pool.PinCaller();
  auto memory = base::MappedMemory::Reserve(kMemoryBytes, base::MappedMemory::Pages::kHuge);
  CHECK(memory.ok());
  std::fill_n(memory->data(), kMemoryBytes, std::byte{1});
  const int64_t index_bytes = fork_bytes / num_indices;
  int64_t fork = 0;
  for (auto _ : state) {
    const std::byte* begin = memory->data() + fork++ % (kMemoryBytes / fork_bytes) * fork_bytes;
    const auto read = [&](int64_t i, int) {
      const auto* words = reinterpret_cast<const uint64_t*>(begin + i * index_bytes);
      uint64_t sum = 0;
      for (int64_t word = 0; word < index_bytes / 8; ++word) sum += words[word];
      benchmark::DoNotOptimize(sum);
    };
    if (stretches) {
      pool.ParallelForStretches(num_indices, read);
    } else {
      pool.ParallelFor(num_indices, read);
    }
    if (between.count() > 0) Spin(between);
  }
  state.SetBytesProcessed(state.iterations() * fork_bytes);
}
BENCHMARK(BM_ThreadPool_Read)
    ->ArgNames({"MiB", "indices", "stretches", "us_between"})
    ->ArgsProduct({{8}, {8, 32, 128}, {0, 1}, {20}})
    // A step's matrices, and all memory in one fork.
    ->ArgsProduct({{1, 4, 16, 32, 512}, {32}, {1}, {0}})
    ->UseRealTime();

}  // namespace
}  // namespace sluice
