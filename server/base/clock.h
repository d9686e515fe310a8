// Time as a parameter: whoever needs the time is given a Clock, so that tests can turn it by hand.
#pragma once

#include "absl/time/time.h"

namespace sluice::base {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;

  // The machine's clock. Lives for the whole process.
  static const Clock& System();
};

}  // namespace sluice::base
