#include "cli/arrivals.h"

#include <cmath>
#include <random>

#include "absl/strings/str_cat.h"

namespace sluice::cli {
namespace {

constexpr double kMaxArrivals = 1e6;

// From 0 to just below 1, in steps of 2^-53. std::uniform_real_distribution differs from library to
// library.
double Uniform(std::mt19937_64& random) {
  return std::ldexp(static_cast<double>(random() >> 11), -53);
}

}  // namespace

absl::StatusOr<std::vector<absl::Duration>> PoissonArrivals(double rate_per_second,
                                                            absl::Duration duration,
                                                            uint64_t seed) {
  const double seconds = absl::ToDoubleSeconds(duration);
  if (!(rate_per_second > 0) || !(seconds > 0)) {
    return absl::InvalidArgumentError("rate and duration must be above 0");
  }
  if (!(rate_per_second * seconds <= kMaxArrivals)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rate x duration must not be above ", kMaxArrivals, " requests"));
  }
  std::vector<absl::Duration> arrivals;
  std::mt19937_64 random(seed);
  for (double time = 0;;) {
    // The gaps of a Poisson process are exponentially distributed.
    time += -std::log1p(-Uniform(random)) / rate_per_second;
    if (time >= seconds) return arrivals;
    arrivals.push_back(absl::Seconds(time));
  }
}

}  // namespace sluice::cli
