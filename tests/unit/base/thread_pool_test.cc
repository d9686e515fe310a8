#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

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

TEST(ThreadPoolTest, RunsTheStartHookOnEachWorkerBeforeItWorks) {
  std::atomic<int> started{0};
  {
    ThreadPool pool({.num_threads = 3, .pin = true, .on_thread_start = [&](int) { ++started; }});
  }
  EXPECT_EQ(started, 2);
}

}  // namespace
}  // namespace sluice::base
