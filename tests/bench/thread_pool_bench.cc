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

// Reading memory on two threads in forks of 8 MiB with 20 microseconds between them, as a decode
// step does, in indices of range(0) KiB that lie side by side: handed out in turn, or in stretches.
void BM_ThreadPool_Read(benchmark::State& state) {
  constexpr int64_t kForkBytes = int64_t{8} << 20;
  constexpr int64_t kForks = 64;
  base::ThreadPool pool({.num_threads = 2, .pin = true});
  pool.PinCaller();
  auto memory = base::MappedMemory::Reserve(kForks * kForkBytes, base::MappedMemory::Pages::kHuge);
  CHECK(memory.ok());
  std::fill_n(memory->data(), kForks * kForkBytes, std::byte{1});
  const int64_t bytes = state.range(0) << 10;
  int64_t fork = 0;
  for (auto _ : state) {
    const std::byte* begin = memory->data() + fork++ % kForks * kForkBytes;
    const auto read = [&](int64_t i, int) {
      const auto* words = reinterpret_cast<const uint64_t*>(begin + i * bytes);
      uint64_t sum = 0;
      for (int64_t word = 0; word < bytes / 8; ++word) sum += words[word];
      benchmark::DoNotOptimize(sum);
    };
    if (state.range(1) != 0) {
      pool.ParallelForStretches(kForkBytes / bytes, read);
    } else {
      pool.ParallelFor(kForkBytes / bytes, read);
    }
    Spin(std::chrono::microseconds(20));
  }
  state.SetBytesProcessed(state.iterations() * kForkBytes);
}
BENCHMARK(BM_ThreadPool_Read)
    ->ArgNames({"KiB", "stretches"})
    ->ArgsProduct({{64, 256, 1024}, {0, 1}})
    ->UseRealTime();

}  // namespace
}  // namespace sluice
