#include "scheduler/departure_rate.h"

#include <algorithm>

namespace sluice::scheduler {

void DepartureRate::NoteEnded(int num_ended, absl::Time now) {
  const absl::Duration interval = std::max(now - since_, absl::ZeroDuration()) / num_ended;
  for (int i = 0; i < num_ended; ++i) mean_ += (interval - mean_) / 8;
  num_ended_ += num_ended;
  since_ = now;
}

absl::Duration DepartureRate::MeanInterval(absl::Time now) const {
  return std::max(mean_, now - since_);
}

}  // namespace sluice::scheduler
