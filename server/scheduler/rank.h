// Rank: who is served first.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace sluice::scheduler {

// The smaller one is served first: admitted first, and the last to be preempted. Of two requests of
// one priority that is the one that arrived first.
//
// A request that waits rises by one priority in each `ageing`. As all rise alike, the order of two
// never changes, and it is the same as if each had arrived `ageing` earlier for each of its
// priorities. So a request of priority p can be passed only by those of a priority q > p that
// arrive within (q - p) * ageing after it: nobody starves. With an ageing of zero priorities count
// for nothing.
struct Rank {
  absl::Time time;
  uint64_t number = 0;  // of the arrival

  static Rank Of(absl::Time arrived_at, uint64_t number, int priority, absl::Duration ageing) {
    return {arrived_at - priority * ageing, number};
  }

  friend bool operator==(const Rank&, const Rank&) = default;
  friend bool operator<(const Rank& a, const Rank& b) {
    return a.time != b.time ? a.time < b.time : a.number < b.number;
  }
};

}  // namespace sluice::scheduler
