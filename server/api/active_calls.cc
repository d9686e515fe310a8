#include "api/active_calls.h"

#include <algorithm>

namespace sluice::api {

bool ActiveCalls::Overfull() {
  std::lock_guard<std::mutex> lock(mutex_);
  return active_ > max_calls_;
}

bool ActiveCalls::TooManyStreams() {
  std::lock_guard<std::mutex> lock(mutex_);
  return streams_ > max_calls_;
}

int ActiveCalls::WaitUntilNone(absl::Duration timeout) {
  // Longer ones overflow when they are added to the time.
  const auto bounded = absl::ToChronoMilliseconds(std::min(timeout, absl::Hours(24 * 365)));
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, bounded, [this] { return active_ == 0; });
  return active_;
}

void ActiveCalls::Add(int change) {
  // Notified under the lock: once it is released, the waiter may be gone.
  std::lock_guard<std::mutex> lock(mutex_);
  active_ += change;
  if (active_ == 0) changed_.notify_all();
}

void ActiveCalls::AddStream(int change) {
  std::lock_guard<std::mutex> lock(mutex_);
  streams_ += change;
}

}  // namespace sluice::api
