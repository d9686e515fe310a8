// BM_ThreadPool_*: what it costs to hand work to other threads.
#include <benchmark/benchmark.h>

#include <chrono>

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

}  // namespace
}  // namespace sluice
