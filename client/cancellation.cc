#include "client/cancellation.h"

#include <utility>

namespace sluice::client {

void Cancellation::Cancel() {
  std::map<uint64_t, std::function<void()>> ends;
  {
    base::MutexLock lock(mutex_);
    cancelled_ = true;
    ends = ends_;
  }
  // Not under the lock: ending a call may run its callbacks, which remove it.
  for (const auto& [id, end] : ends) end();
}

bool Cancellation::cancelled() const {
  base::MutexLock lock(mutex_);
  return cancelled_;
}

uint64_t Cancellation::Add(std::function<void()> end) {
  bool cancelled = false;
  uint64_t id = 0;
  {
    base::MutexLock lock(mutex_);
    cancelled = cancelled_;
    id = next_id_++;
    ends_.emplace(id, end);
  }
  if (cancelled) end();
  return id;
}

void Cancellation::Remove(uint64_t id) {
  base::MutexLock lock(mutex_);
  ends_.erase(id);
}

}  // namespace sluice::client
