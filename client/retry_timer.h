// RetryTimer: the time and the chance that retries need of the world, so that tests can bring their
// own.
#pragma once

#include <functional>
#include <memory>

#include "absl/time/time.h"

namespace sluice::client {

// Thread-safe.
class RetryTimer {
 public:
  // A wait that is under way.
  class Wait {
   public:
    virtual ~Wait() = default;
    // Ends it soon, if it has not ended. Thread-safe.
    virtual void Cancel() = 0;
  };

  virtual ~RetryTimer() = default;

  virtual absl::Time Now() const = 0;
  // From 0 up to 1.
  virtual double Random() = 0;
  // Has `done` called once, by another thread or before this returns, when `delay` is over or the
  // wait is cancelled. No thread sleeps meanwhile.
  virtual std::shared_ptr<Wait> Start(absl::Duration delay, std::function<void()> done) = 0;

  // gRPC's timers, and the machine's clock.
  static RetryTimer& System();
};

}  // namespace sluice::client
