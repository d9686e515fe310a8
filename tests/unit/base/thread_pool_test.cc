#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <functional>
#include <latch>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "base/control_group.h"
#include "base/processors.h"

namespace sluice::base {
namespace {

TEST(ThreadPoolTest, CallsEveryIndexOnce) {
  for (const int num_threads : {1, 2, 5}) {
    ThreadPool pool({.num_threads = num_threads});
    for (const int64_t n : {0, 1, 2, 3, 1000}) {
      std::vector<int> calls(n, 0);
      pool.ParallelFor(n, [&](int64_t i, int thread) {
        ASSERT_GE(thread, 0);
        ASSERT_LT(thread, num_threads);
        ++calls[i];
      });
      EXPECT_EQ(calls, std::vector<int>(n, 1)) << num_threads << " threads, n = " << n;
    }
  }
}

TEST(ThreadPoolTest, StretchesCallEveryIndexOnce) {
  for (const int num_threads : {1, 2, 5}) {
    ThreadPool pool({.num_threads = num_threads});
    for (const int64_t n : {0, 1, 2, 3, 4, 1000}) {
      std::vector<std::atomic<int>> calls(n);
      pool.ParallelForStretches(n, [&](int64_t i, int thread) {
        ASSERT_GE(thread, 0);
        ASSERT_LT(thread, num_threads);
        ASSERT_GE(i, 0);
        ASSERT_LT(i, n);
        ++calls[i];
      });
      for (int64_t i = 0; i < n; ++i)
        EXPECT_EQ(calls[i], 1) << num_threads << ", " << n << ": " << i;
    }
  }
}

// Two threads: the first index of each is the first of its half, and what it runs of its own half
// follows from there one by one.
TEST(ThreadPoolTest, AThreadWalksThroughItsOwnStretch) {
  ThreadPool pool({.num_threads = 2});
  constexpr int64_t kIndices = 1000;
  std::vector<int64_t> runs[2];
  std::latch both(2);
  pool.ParallelForStretches(kIndices, [&](int64_t i, int thread) {
    if (runs[thread].empty()) both.arrive_and_wait();
    runs[thread].push_back(i);
  });
  for (const int64_t thread : {0, 1}) {
    const int64_t first = thread * kIndices / 2;
    int64_t next = first;
    for (const int64_t i : runs[thread]) {
      if (i < first || i >= first + kIndices / 2) continue;
      EXPECT_EQ(i, next++) << "thread " << thread;
    }
    EXPECT_GT(next, first) << "thread " << thread;
  }
}

// Who is done early takes the rest of the other's, from its end.
TEST(ThreadPoolTest, AThreadThatIsDoneTakesFromTheEndOfAnothersStretch) {
  ThreadPool pool({.num_threads = 2});
  std::latch others_done(7);
  std::vector<int64_t> taken;  // of thread 0's half
  std::mutex mutex;
  pool.ParallelForStretches(8, [&](int64_t i, int) {
    if (i == 0) {
      others_done.wait();
      return;
    }
    if (i < 4) {
      std::lock_guard lock(mutex);
      taken.push_back(i);
    }
    others_done.count_down();
  });
  EXPECT_EQ(taken, (std::vector<int64_t>{3, 2, 1}));
}

// What the threads wrote is visible to the caller afterwards, and the next fork sees it too;
// ThreadSanitizer watches.
TEST(ThreadPoolTest, ManyForksInARowSeeEachOthersWrites) {
  ThreadPool pool({.num_threads = 3});
  constexpr int kForks = 2000;
  std::vector<int64_t> from(64, 0);
  std::vector<int64_t> to(64, 0);
  for (int fork = 0; fork < kForks; ++fork) {
    pool.ParallelFor(64, [&](int64_t i, int) { to[63 - i] = from[i] + 1; });
    from.swap(to);
  }
  EXPECT_EQ(from, std::vector<int64_t>(64, kForks));
}

TEST(ThreadPoolTest, EveryThreadHasItsOwnIndex) {
  ThreadPool pool({.num_threads = 4});
  std::vector<std::atomic<int>> inside(4);
  std::atomic<int> clashes{0};
  pool.ParallelFor(5000, [&](int64_t, int thread) {
    if (inside[thread].fetch_add(1) != 0) ++clashes;
    inside[thread].fetch_sub(1);
  });
  EXPECT_EQ(clashes, 0);
}

// More threads than the machine has processors.
int ManyThreads() { return 2 * static_cast<int>(AllowedProcessors().size()) + 3; }

// Comes back when `count` threads are here.
void Meet(std::atomic<int>& arrived, int count) {
  ++arrived;
  while (arrived < count) std::this_thread::yield();
}

// Such a pool sends its threads to sleep after a few microseconds. Were one not woken, the others
// would wait for it for ever.
TEST(ThreadPoolTest, WakesEveryThreadThatSleeps) {
  const int num_threads = ManyThreads();
  ThreadPool pool({.num_threads = num_threads});
  for (int fork = 0; fork < 200; ++fork) {
    std::atomic<int> arrived{0};
    std::vector<std::atomic<int>> calls(num_threads);
    pool.ParallelFor(num_threads, [&](int64_t, int thread) {
      ++calls[thread];
      Meet(arrived, num_threads);
    });
    for (int thread = 0; thread < num_threads; ++thread) ASSERT_EQ(calls[thread], 1) << thread;
  }
}

// Thread 0 has run out of indices long before the others have finished theirs, and sleeps.
TEST(ThreadPoolTest, CallerWaitsForWhatWorkersHaveTaken) {
  const int num_threads = ManyThreads();
  ThreadPool pool({.num_threads = num_threads});
  for (int fork = 0; fork < 50; ++fork) {
    std::atomic<int> arrived{0};
    std::atomic<int> done{0};
    pool.ParallelFor(num_threads, [&](int64_t, int thread) {
      Meet(arrived, num_threads);
      if (thread == 0) return;
      for (int i = 0; i < 100; ++i) std::this_thread::yield();
      ++done;
    });
    ASSERT_EQ(done, num_threads - 1);
  }
}

TEST(ThreadPoolTest, DoesNotWaitForWorkersThatComeLate) {
  std::latch released(1);
  ThreadPool pool({.num_threads = 3, .on_thread_start = [&](int) { released.wait(); }});
  for (int fork = 0; fork < 100; ++fork) {
    std::vector<int> calls(10, 0);
    pool.ParallelFor(10, [&](int64_t i, int thread) {
      EXPECT_EQ(thread, 0);
      ++calls[i];
    });
    EXPECT_EQ(calls, std::vector<int>(10, 1));
  }
  released.count_down();
}

// Forks whose functions lie on the caller's stack, one after the other at the same place, with
// workers that come late to many of them.
TEST(ThreadPoolTest, LateWorkersNeverRunAForkThatHasEnded) {
  ThreadPool pool({.num_threads = ManyThreads()});
  for (int fork = 0; fork < 3000; ++fork) {
    const int n = 2 + fork % 5;
    std::atomic<int> calls{0};
    pool.ParallelFor(n, [&calls, n, fork](int64_t i, int) {
      EXPECT_LT(i, n) << fork;
      ++calls;
    });
    ASSERT_EQ(calls, n);
  }
}

TEST(ThreadPoolTest, EveryThreadIsPinnedAsPlanned) {
  const auto affinity = [] {
    std::set<int> ids;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return ids;
    for (int id = 0; id < CPU_SETSIZE; ++id) {
      if (CPU_ISSET(id, &set)) ids.insert(id);
    }
    return ids;
  };
  const std::vector<int>& allowed = AllowedProcessors();
  for (const int num_threads : {1, 2, ManyThreads()}) {
    const std::vector<int> pins = PlanPinning(ReadTopology(allowed), CpuQuota(), num_threads);
    const auto run = [&] {
      ThreadPool pool({.num_threads = num_threads, .pin = true});
      pool.PinCaller();
      pool.PinCaller();
      std::atomic<int> arrived{0};
      pool.ParallelFor(num_threads, [&](int64_t, int thread) {
        EXPECT_EQ(affinity(), pins.empty() ? std::set<int>(allowed.begin(), allowed.end())
                                           : std::set<int>{pins[thread]})
            << thread;
        Meet(arrived, num_threads);
      });
    };
    std::thread(run).join();
  }
}

TEST(ThreadPoolTest, RunsTheStartHookOnEachWorkerBeforeItWorks) {
  std::atomic<int> started{0};
  {
    ThreadPool pool({.num_threads = 3, .pin = true, .on_thread_start = [&](int) { ++started; }});
  }
  EXPECT_EQ(started, 2);
}

}  // namespace
}  // namespace sluice::base
