#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include "base/check.h"

namespace sluice::base {
namespace {

// About 20 to 50 microseconds of polling: longer than the gap between two forks of a step.
constexpr int kSpins = 2000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `value` differs from `seen`: first by polling, then asleep in the kernel. Returns the
// new value.
template <typename T>
T WaitForChange(const std::atomic<T>& value, T seen) {
  for (int i = 0; i < kSpins; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != seen) return now;
    Pause();
  }
  value.wait(seen, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

// Pins the calling thread to the index-th processor of those that the process may use, counted in a
// circle.
void PinThread(int index) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  int skip = index % CPU_COUNT(&allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || skip-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
    return;
  }
}

}  // namespace

struct ThreadPool::Fork {
  int64_t n;
  absl::FunctionRef<void(int64_t, int)> work;
  std::atomic<int64_t> next{0};
};

ThreadPool::ThreadPool(const Options& options) {
  CHECK(options.num_threads >= 1);
  workers_.reserve(options.num_threads - 1);
  for (int thread = 1; thread < options.num_threads; ++thread) {
    workers_.emplace_back([this, thread, options] { RunWorker(thread, options); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ParallelFor(int64_t n, absl::FunctionRef<void(int64_t, int)> work) {
  if (n <= 0) return;
  Fork fork{n, work};
  if (n == 1 || workers_.empty()) {
    RunFork(fork, 0);
    return;
  }
  fork_ = &fork;
  busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  RunFork(fork, 0);
  for (int busy = busy_.load(std::memory_order_acquire); busy != 0;)
    busy = WaitForChange(busy_, busy);
}

void ThreadPool::RunWorker(int thread, const Options& options) {
  if (options.pin) PinThread(thread);
  if (options.on_thread_start) options.on_thread_start(thread);
  for (uint32_t seen = 0;;) {
    seen = WaitForChange(epoch_, seen);
    if (stopping_.load(std::memory_order_relaxed)) return;
    RunFork(*fork_, thread);
    if (busy_.fetch_sub(1, std::memory_order_release) == 1) busy_.notify_one();
  }
}

void ThreadPool::RunFork(Fork& fork, int thread) {
  for (int64_t i; (i = fork.next.fetch_add(1, std::memory_order_relaxed)) < fork.n;)
    fork.work(i, thread);
}

}  // namespace sluice::base
