#include "bench/read_bandwidth.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sluice::bench {
namespace {

// Measure checks that every byte was read in every pass.
TEST(ReadBandwidthTest, EveryThreadCountReadsTheWholeBufferAgainAndAgain) {
  for (const int threads : {1, 2, 3}) {
    base::ThreadPool pool({.num_threads = threads});
    ReadBandwidth bandwidth(pool, (8 << 20) - 1);
    for (int i = 0; i < 2; ++i) {
      const double rate = bandwidth.Measure();
      EXPECT_GT(rate, 0) << threads;
      EXPECT_TRUE(std::isfinite(rate)) << threads;
    }
  }
}

TEST(ReadBandwidthTest, TheBufferIsFarLargerThanTheCaches) {
  EXPECT_GE(ReadBandwidth::DefaultBytes(), int64_t{512} << 20);
}

}  // namespace
}  // namespace sluice::bench
