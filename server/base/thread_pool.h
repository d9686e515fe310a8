// A fork-join pool of threads that compute: ParallelFor runs a function over a range on all of them
// and returns when all is done. There is no queue and no future.
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace sluice::base {

// One thread at a time may call ParallelFor (the engine thread, in the server); it works along as
// thread 0. A worker belongs to a fork only while it has an index of it: one that is asleep, or
// that the kernel runs late, is not waited for, and the others do its share. Who has nothing to do
// polls for a while and then sleeps in the kernel, and only who sleeps is woken: a busy step makes
// no system call.
class ThreadPool {
 public:
  struct Options {
    // Threads that work, the caller of ParallelFor among them; at least 1.
    int num_threads = 1;
    // Pin each worker to a processor as PlanPinning says, or to none if it says so.
    bool pin = false;
    // Runs first on every worker (not on the caller of ParallelFor), with the worker's index
    // from 1.
    std::function<void(int)> on_thread_start;
  };
  static constexpr int64_t kMaxIndices = (int64_t{1} << 31) - 1;

  explicit ThreadPool(const Options& options);
  // REQUIRES: no ParallelFor is running.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Pins the calling thread to thread 0's processor, if the workers are pinned to theirs; it stays
  // so. Costs next to nothing if this thread was the last to ask. By the caller of ParallelFor.
  void PinCaller();

  // Calls work(i, thread) once for every i in [0, n), in any order, on any of the threads 0 to
  // num_threads() - 1, and returns when all calls have returned; what they wrote is then visible to
  // the caller and to every later call. Indices are handed out one by one in ascending order, so
  // uneven work balances itself. `work` must not throw and must not call ParallelFor.
  // REQUIRES: n <= kMaxIndices.
  void ParallelFor(int64_t n, absl::FunctionRef<void(int64_t index, int thread)> work);

  // The same, but each thread has a stretch of the indices for its own, in ascending order, and who
  // is done with his takes from the end of another's. For indices that read one stretch of memory
  // after the other: processors fetch ahead beyond the end of an index, which is of use only to
  // the thread that has the next one.
  void ParallelForStretches(int64_t n, absl::FunctionRef<void(int64_t index, int thread)> work);

 private:
  // What is left of a thread's stretch: its end in the upper half, its next index in the lower.
  struct alignas(64) Stretch {
    std::atomic<uint64_t> left{0};
  };

  using Duration = std::chrono::steady_clock::duration;

  void RunWorker(int thread, const Options& options);
  // Takes indices until there are none; returns how many it ran.
  int32_t RunIndices(int thread);
  // False when the pool is at its end.
  bool WaitForIndices();
  void WaitUntilFinished(int32_t count);
  // REQUIRES: fewer calls than indices have been made since the stretches were laid out.
  int64_t TakeFromStretches(int thread);

  // The current fork: n in the upper half, the next index in the lower. Whoever adds 1 and finds
  // next < n has that index of the fork that is current at that moment, which cannot end, nor work_
  // change, before that index is counted in finished_. So no one needs to know which fork he came
  // for, and a late addition to a fork that has no indices left changes nothing: at most one for
  // each thread, so that the halves stay apart.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  // Read only by those who have an index.
  const absl::FunctionRef<void(int64_t, int)>* work_ = nullptr;
  std::atomic<bool> stopping_{false};

  // Indices of the current fork that workers have run. A worker adds all of its own at once, when
  // it finds no more.
  alignas(64) std::atomic<int32_t> finished_{0};
  std::atomic<bool> caller_sleeps_{false};

  // Sleeping workers, or such as are about to: these look once more for indices after they have
  // announced themselves here, and the caller looks here after it has offered indices.
  alignas(64) std::atomic<int32_t> sleepers_{0};
  // Advances to wake them.
  std::atomic<uint32_t> wakeups_{0};

  // How long to poll before sleeping.
  Duration worker_patience_;
  Duration caller_patience_;
  std::vector<Stretch> stretches_;  // by thread
  std::vector<int> pins_;           // by thread; empty: not pinned
  std::optional<pthread_t> pinned_caller_;
  std::vector<std::thread> workers_;
};

}  // namespace sluice::base
