#include "cli/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace sluice::cli {
namespace {

TEST(PoissonArrivalsTest, AreInOrderWithinTheDurationAndTheSameForASeed) {
  const auto arrivals = PoissonArrivals(50, absl::Seconds(4), 7);
  ASSERT_TRUE(arrivals.ok());
  ASSERT_FALSE(arrivals->empty());
  EXPECT_TRUE(std::is_sorted(arrivals->begin(), arrivals->end()));
  EXPECT_GE(arrivals->front(), absl::ZeroDuration());
  EXPECT_LT(arrivals->back(), absl::Seconds(4));
  EXPECT_EQ(*arrivals, *PoissonArrivals(50, absl::Seconds(4), 7));
  EXPECT_NE(*arrivals, *PoissonArrivals(50, absl::Seconds(4), 8));
}

// For a Poisson process, the count is rate x duration with a variance of the same size, and the
// gaps have mean and standard deviation 1 / rate. The bounds are five standard deviations wide.
TEST(PoissonArrivalsTest, HaveTheRateAndSpreadOfAPoissonProcess) {
  constexpr double kRate = 200;
  constexpr double kSeconds = 100;
  constexpr double kExpected = kRate * kSeconds;
  for (const uint64_t seed : {1, 2, 3, 4, 5}) {
    SCOPED_TRACE(seed);
    const auto arrivals = *PoissonArrivals(kRate, absl::Seconds(kSeconds), seed);
    EXPECT_NEAR(arrivals.size(), kExpected, 5 * std::sqrt(kExpected));
    double sum_of_squares = 0;
    for (size_t i = 1; i < arrivals.size(); ++i) {
      const double gap = absl::ToDoubleSeconds(arrivals[i] - arrivals[i - 1]) * kRate;
      sum_of_squares += gap * gap;
    }
    // E[gap^2] = 2 and Var[gap^2] = 20 for an exponential distribution of mean 1.
    EXPECT_NEAR(sum_of_squares / arrivals.size(), 2, 5 * std::sqrt(20 / kExpected));
  }
}

TEST(PoissonArrivalsTest, RefusesWhatHasNoSchedule) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double rate : {0.0, -1.0, nan, infinity, 1e6 + 1}) {
    EXPECT_TRUE(absl::IsInvalidArgument(PoissonArrivals(rate, absl::Seconds(1), 1).status()))
        << rate;
  }
  for (const absl::Duration duration :
       {absl::ZeroDuration(), absl::Seconds(-1), absl::InfiniteDuration()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(PoissonArrivals(1, duration, 1).status())) << duration;
  }
}

}  // namespace
}  // namespace sluice::cli
