// PromptRate: how fast prompts are computed, measured while there is more of them than a step
// takes.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/time/time.h"

namespace sluice::scheduler {

// Not thread-safe. All means are exponential moving averages with the gain 1/8, as
// DepartureRate's.
class PromptRate {
 public:
  // A step computed so many prompt tokens, as many as its budget allowed: none, if they were left
  // aside.
  void NoteFullStep(int64_t num_tokens, absl::Duration duration);

  // A request was admitted; so many tokens of its prompt were in the cache.
  void NoteAdmitted(int64_t num_tokens, int64_t num_cached);

  // What it takes to compute prompts of so many tokens, if the cache holds as large a part of them
  // as of those before. Nullopt until enough has been measured.
  std::optional<absl::Duration> TimeFor(int64_t num_tokens) const;

 private:
  int num_measured_ = 0;
  // Of such a step, on average.
  double tokens_ = 0;
  double seconds_ = 0;
  double share_cached_ = 0;
};

}  // namespace sluice::scheduler
