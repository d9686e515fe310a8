#include "cli/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace sluice::cli {
namespace {

TEST(LatencyHistogramTest, IsZeroWhenEmpty) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0);
  EXPECT_EQ(histogram.Percentile(0.99), absl::ZeroDuration());
  EXPECT_EQ(histogram.Mean(), absl::ZeroDuration());
  EXPECT_EQ(histogram.Max(), absl::ZeroDuration());
}

TEST(LatencyHistogramTest, OneDurationIsEveryPercentile) {
  for (const absl::Duration duration :
       {absl::ZeroDuration(), absl::Nanoseconds(1), absl::Microseconds(1), absl::Milliseconds(123),
        absl::Hours(1), absl::Hours(24 * 365)}) {
    LatencyHistogram histogram;
    histogram.Add(duration);
    for (const double share : {0.0, 0.5, 1.0}) {
      EXPECT_EQ(histogram.Percentile(share), duration) << duration;
    }
    EXPECT_EQ(histogram.Mean(), duration);
    EXPECT_EQ(histogram.Max(), duration);
  }
}

TEST(LatencyHistogramTest, CountsNegativeDurationsAsZero) {
  LatencyHistogram histogram;
  histogram.Add(absl::Seconds(-1));
  EXPECT_EQ(histogram.Mean(), absl::ZeroDuration());
  EXPECT_EQ(histogram.count(), 1);
}

// Against nearest rank on the sorted durations themselves, over six decades.
TEST(LatencyHistogramTest, PercentilesAreExactToOnePercent) {
  for (const uint64_t seed : {1, 2, 3}) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<double> exponent(-5, 1);
    std::vector<absl::Duration> durations;
    LatencyHistogram histogram;
    for (int i = 0; i < 1000; ++i) {
      durations.push_back(absl::Seconds(std::pow(10, exponent(random))));
      histogram.Add(durations.back());
    }
    std::sort(durations.begin(), durations.end());
    for (const double share : {0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      const absl::Duration exact = durations[std::lround(share * 1000) - 1];
      const absl::Duration found = histogram.Percentile(share);
      // The bounds of buckets are rounded to a quarter of a nanosecond.
      EXPECT_GE(found, exact - absl::Nanoseconds(1)) << share;
      EXPECT_LE(found, exact * 1.01 + absl::Nanoseconds(1)) << share;
    }
    EXPECT_EQ(histogram.Max(), durations.back());
  }
}

TEST(LatencyHistogramTest, AddingAHistogramIsAddingItsDurations) {
  LatencyHistogram all;
  LatencyHistogram even;
  LatencyHistogram odd;
  for (int i = 0; i < 100; ++i) {
    all.Add(absl::Milliseconds(i), 2);
    (i % 2 == 0 ? even : odd).Add(absl::Milliseconds(i), 2);
  }
  LatencyHistogram sum;
  sum.Add(even);
  sum.Add(LatencyHistogram());
  sum.Add(odd);
  EXPECT_EQ(sum.count(), 200);
  EXPECT_EQ(sum.Mean(), all.Mean());
  EXPECT_EQ(sum.Max(), all.Max());
  for (const double share : {0.1, 0.5, 0.9}) {
    EXPECT_EQ(sum.Percentile(share), all.Percentile(share));
  }
}

}  // namespace
}  // namespace sluice::cli
