#include "api/active_calls.h"

namespace sluice::api {

int ActiveCalls::WaitUntilNone(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout), [this] { return active_ == 0; });
  return active_;
}

void ActiveCalls::Add(int change) {
  // Notified under the lock: once it is released, the waiter may be gone.
  std::lock_guard<std::mutex> lock(mutex_);
  active_ += change;
  if (active_ == 0) changed_.notify_all();
}

}  // namespace sluice::api
