// PoissonArrivals: when the requests of an open loop are sent.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace sluice::cli {

// The arrivals of a Poisson process from 0 up to `duration`, in order; the same for the same seed
// on every machine. INVALID_ARGUMENT unless rate and duration are positive and a million arrivals
// or fewer are to be expected.
absl::StatusOr<std::vector<absl::Duration>> PoissonArrivals(double rate_per_second,
                                                            absl::Duration duration, uint64_t seed);

}  // namespace sluice::cli
