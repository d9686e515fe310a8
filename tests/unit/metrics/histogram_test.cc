#include "metrics/histogram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <thread>
#include <vector>

namespace sluice::metrics {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

TEST(HistogramTest, CountsUpToAndWithEachBound) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::vector<double> bounds = {0.5, 2, 4};
  struct Case {
    double value;
    size_t bucket;
  };
  for (const Case& c : {Case{-1, 0}, Case{0, 0}, Case{0.5, 0}, Case{0.75, 1}, Case{2, 1},
                        Case{4, 2}, Case{4.5, 3}, Case{kInfinity, 3}}) {
    SCOPED_TRACE(c.value);
    Histogram histogram(bounds);
    histogram.Observe(c.value);
    const HistogramCounts read = histogram.Read();
    EXPECT_EQ(read.bounds, bounds);
    std::vector<int64_t> want(4);
    want[c.bucket] = 1;
    EXPECT_EQ(read.counts, want);
    EXPECT_EQ(read.sum, c.value);
  }
}

TEST(HistogramTest, HasCountedNothingAtFirst) {
  const HistogramCounts read = Histogram({1}).Read();
  EXPECT_THAT(read.counts, ElementsAre(0, 0));
  EXPECT_EQ(read.sum, 0);
}

TEST(HistogramTest, ReadersSeeWholeObservationsOnly) {
  // Each value has a bucket of its own, so the counts say what the sum has to be.
  const std::vector<double> values = {1, 2, 3, 4};
  constexpr int kObservers = 2, kBursts = 200, kBurst = 50;
  Histogram histogram({1, 2, 3});
  std::atomic<int> reads{0}, observers_left{kObservers};
  const auto observe = [&] {
    for (int burst = 0; burst < kBursts; ++burst) {
      for (int i = 0; i < kBurst; ++i) {
        for (const double value : values) histogram.Observe(value);
      }
      // There is a reading between two bursts, and the next begins while the burst comes.
      const int before = reads;
      while (reads == before) std::this_thread::yield();
    }
    --observers_left;
  };
  std::thread observer_a(observe), observer_b(observe);
  std::vector<int64_t> last(values.size());
  bool is_last = false;
  do {
    is_last = observers_left == 0;
    const HistogramCounts read = histogram.Read();
    ++reads;
    double sum = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_GE(read.counts[i], last[i]);
      sum += values[i] * static_cast<double>(read.counts[i]);
    }
    EXPECT_EQ(read.sum, sum);
    last = read.counts;
  } while (!is_last);
  observer_a.join();
  observer_b.join();
  EXPECT_THAT(last, Each(int64_t{kObservers} * kBursts * kBurst));
}

}  // namespace
}  // namespace sluice::metrics
