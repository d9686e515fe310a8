// DepartureRate: how fast requests end, measured while the engine is busy.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace sluice::scheduler {

// Not thread-safe. The mean is an exponential moving average with the gain 1/8 that TCP uses for
// its round-trip time (RFC 6298); it begins with a guess of one second.
class DepartureRate {
 public:
  // The engine was idle until `now`: time before it does not count.
  void NoteBusy(absl::Time now) { since_ = now; }

  // `num_ended` requests ended at `now`; at least one.
  void NoteEnded(int num_ended, absl::Time now);

  // Enough have ended for the guess to count little.
  bool is_measured() const { return num_ended_ >= 16; }

  // The time from one end to the next, on average.
  absl::Duration mean() const { return mean_; }

  // The same, but when none has ended for longer than that, the rate has fallen, and it
  // is the time since the last.
  absl::Duration MeanInterval(absl::Time now) const;

 private:
  absl::Duration mean_ = absl::Seconds(1);
  int64_t num_ended_ = 0;
  absl::Time since_ = absl::InfiniteFuture();
};

}  // namespace sluice::scheduler
