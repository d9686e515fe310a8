// A fork-join pool of threads that compute: ParallelFor runs a function over a range on all of them
// and returns when all is done. There is no queue and no future.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace sluice::base {

// One thread at a time may call ParallelFor (the engine thread, in the server); it works along as
// thread 0. Idle workers spin for a moment and then sleep in the kernel, so that a busy step costs
// no system call.
class ThreadPool {
 public:
  struct Options {
    // Threads that work, the caller of ParallelFor among them; at least 1.
    int num_threads = 1;
    // Pin worker i to the i-th processor that the process may use. The caller is not pinned.
    bool pin = false;
    // Runs first on every worker (not on the caller of ParallelFor), with the worker's index
    // from 1.
    std::function<void(int)> on_thread_start;
  };

  explicit ThreadPool(const Options& options);
  // REQUIRES: no ParallelFor is running.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls work(i, thread) once for every i in [0, n), in any order, on any of the threads 0 to
  // num_threads() - 1, and returns when all calls have returned. Indices are handed out one by one,
  // so uneven work balances itself. `work` must not throw and must not call ParallelFor.
  void ParallelFor(int64_t n, absl::FunctionRef<void(int64_t index, int thread)> work);

 private:
  struct Fork;

  void RunWorker(int thread, const Options& options);
  void RunFork(Fork& fork, int thread);

  // The current fork; set before epoch_ advances, and left alone until every worker has reported in
  // busy_.
  Fork* fork_ = nullptr;
  // Advances by one for each fork; workers wait for it to change.
  std::atomic<uint32_t> epoch_{0};
  // Workers that have not yet finished with the current fork.
  std::atomic<int> busy_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace sluice::base
