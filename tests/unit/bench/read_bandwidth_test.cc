#include "bench/read_bandwidth.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sluice::bench {
namespace {

// Zero would mean that not every byte was read, or not once a pass.
TEST(ReadBandwidthTest, EveryThreadCountReadsTheWholeBuffer) {
  for (const int threads : {1, 2, 3}) {
    base::ThreadPool pool({.num_threads = threads});
    const double bandwidth = MeasureReadBandwidth(pool, 8 << 20);
    EXPECT_GT(bandwidth, 0) << threads;
    EXPECT_TRUE(std::isfinite(bandwidth)) << threads;
  }
}

TEST(ReadBandwidthTest, TheBufferIsFarLargerThanTheCaches) {
  EXPECT_GE(ReadBandwidthBytes(), int64_t{512} << 20);
}

}  // namespace
}  // namespace sluice::bench
