// Cancellation: ends calls from outside.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "base/mutex.h"

namespace sluice::client {

// Whatever was given this object ends with CANCELLED. Thread-safe; must outlive the calls it was
// given to.
class Cancellation {
 public:
  // Ends the calls that run, and those that start from now on. May be called any number of times.
  void Cancel();
  bool cancelled() const;

  // For the library: has `end` called when this is cancelled, at once if it was already. It may be
  // called once more just after Remove.
  uint64_t Add(std::function<void()> end);
  void Remove(uint64_t id);

 private:
  mutable base::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::function<void()>> ends_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::client
