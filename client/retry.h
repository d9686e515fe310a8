// When a call that was refused is tried again. Nothing here waits or calls.
#pragma once

#include <functional>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sluice::client {

class RetryTimer;

// An attempt that failed and is followed by another.
struct Retry {
  // Counted from 1.
  int attempt = 0;
  // How it failed.
  absl::Status status;
  // How long after it the next one starts.
  absl::Duration delay;
};

// A call is tried again only while nothing of its answer has come: after RESOURCE_EXHAUSTED if the
// server said when to come back, and then not before; after UNAVAILABLE at that time, or else after
// a delay that doubles with each attempt. Never beyond the call's deadline: if the next attempt
// would start after it, the call ends at once with what the last one said.
struct RetryPolicy {
  // 1: never again.
  int max_attempts = 1;
  // Delays that the server did not ask for.
  absl::Duration initial_backoff = absl::Milliseconds(100);
  absl::Duration max_backoff = absl::Seconds(10);
  // Called before each wait, if set, by the thread that the call's events come on.
  std::function<void(const Retry&)> on_retry;
  // Time and chance; null: the real ones. Must outlive the call.
  RetryTimer* timer = nullptr;
};

// How an attempt ended.
struct Attempt {
  // Counted from 1.
  int number = 1;
  absl::StatusCode code = absl::StatusCode::kOk;
  // When the server wants to be asked again; negative: never.
  std::optional<absl::Duration> pushback;
  // Whether any part of an answer has come.
  bool answered = false;
  // Until the call's deadline.
  absl::Duration time_left = absl::InfiniteDuration();
};

// After which time to try again; absent: not at all. `random`, from 0 up to 1, spreads the clients
// that were refused together: by up to a fifth, later only if the server named the time.
std::optional<absl::Duration> RetryDelay(const RetryPolicy& policy, const Attempt& attempt,
                                         double random);

}  // namespace sluice::client
