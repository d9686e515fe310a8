// LatencyHistogram: percentiles of any number of durations in constant memory.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace sluice::cli {

// Buckets grow by 1 %, so a percentile is exact to 1 %; maximum and mean are exact. Not
// thread-safe.
class LatencyHistogram {
 public:
  // Adds `count` durations of this length; negative ones count as 0.
  void Add(absl::Duration duration, int64_t count = 1);
  // Adds all durations of another histogram.
  void Add(const LatencyHistogram& other);

  int64_t count() const { return count_; }

  // The shortest duration that at least `share` (0 to 1) of all are not longer than, by nearest
  // rank; 0 if there are none. Never too short, and at most 1 % too long.
  absl::Duration Percentile(double share) const;
  // 0 if there are none.
  absl::Duration Mean() const;
  absl::Duration Max() const { return max_; }

 private:
  std::vector<int64_t> buckets_;
  int64_t count_ = 0;
  absl::Duration sum_;
  absl::Duration max_;
};

}  // namespace sluice::cli
