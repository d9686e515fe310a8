#include "scheduler/prompt_rate.h"

#include <algorithm>

namespace sluice::scheduler {
namespace {

// Before, the mean says more about the first steps than about the rate.
constexpr int kEnough = 8;

}  // namespace

void PromptRate::NoteFullStep(int64_t num_tokens, absl::Duration duration) {
  // Plain means at first, so that nothing but what was measured counts.
  num_measured_ = std::min(num_measured_ + 1, kEnough);
  tokens_ += (static_cast<double>(num_tokens) - tokens_) / num_measured_;
  seconds_ += (std::max(0.0, absl::ToDoubleSeconds(duration)) - seconds_) / num_measured_;
}

void PromptRate::NoteAdmitted(int64_t num_tokens, int64_t num_cached) {
  const double share = static_cast<double>(num_cached) / static_cast<double>(num_tokens);
  share_cached_ += (share - share_cached_) / 8;
}

std::optional<absl::Duration> PromptRate::TimeFor(int64_t num_tokens) const {
  if (num_measured_ < kEnough || tokens_ <= 0) return std::nullopt;
  return absl::Seconds(static_cast<double>(num_tokens) * (1 - share_cached_) * seconds_ / tokens_);
}

}  // namespace sluice::scheduler
