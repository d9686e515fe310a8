#include "cli/interrupt.h"

#include <gtest/gtest.h>

#include <csignal>

namespace sluice::cli {
namespace {

TEST(ScopedInterruptTest, SignalsCancel) {
  for (const int signal : {SIGINT, SIGTERM}) {
    client::Cancellation cancellation;
    {
      const ScopedInterrupt interrupt(cancellation);
      raise(signal);
    }
    // What came before the end has been dealt with by then.
    EXPECT_TRUE(cancellation.cancelled()) << signal;
  }
}

TEST(ScopedInterruptTest, NothingIsCancelledWithoutASignal) {
  client::Cancellation cancellation;
  { const ScopedInterrupt interrupt(cancellation); }
  EXPECT_FALSE(cancellation.cancelled());
}

TEST(ScopedInterruptDeathTest, TheSecondSignalEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        client::Cancellation cancellation;
        const ScopedInterrupt interrupt(cancellation);
        raise(SIGINT);
        raise(SIGINT);
      },
      ::testing::KilledBySignal(SIGINT), "");
}

TEST(ScopedInterruptDeathTest, AfterwardsASignalEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        client::Cancellation cancellation;
        { const ScopedInterrupt interrupt(cancellation); }
        raise(SIGTERM);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace sluice::cli
