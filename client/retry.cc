#include "client/retry.h"

#include <algorithm>

namespace sluice::client {
namespace {

constexpr double kSpread = 0.2;
// Who is told to come back later than this had better say so than wait.
constexpr absl::Duration kMaxPushback = absl::Hours(1);

absl::Duration Backoff(const RetryPolicy& policy, int number, double random) {
  absl::Duration backoff = policy.initial_backoff;
  for (int i = 1; i < number && backoff < policy.max_backoff; ++i) backoff *= 2;
  return std::min(backoff, policy.max_backoff) * (1 - kSpread + 2 * kSpread * random);
}

}  // namespace

std::optional<absl::Duration> RetryDelay(const RetryPolicy& policy, const Attempt& attempt,
                                         double random) {
  if (attempt.answered || attempt.number >= policy.max_attempts) return std::nullopt;
  std::optional<absl::Duration> delay;
  if (attempt.pushback && (attempt.code == absl::StatusCode::kResourceExhausted ||
                           attempt.code == absl::StatusCode::kUnavailable)) {
    if (*attempt.pushback < absl::ZeroDuration() || *attempt.pushback > kMaxPushback) {
      return std::nullopt;
    }
    delay = *attempt.pushback * (1 + kSpread * random);
    // The spread alone is no reason to give up.
    if (*delay >= attempt.time_left) delay = attempt.pushback;
  } else if (attempt.code == absl::StatusCode::kUnavailable) {
    delay = Backoff(policy, attempt.number, random);
  }
  if (!delay || *delay >= attempt.time_left) return std::nullopt;
  return delay;
}

}  // namespace sluice::client
