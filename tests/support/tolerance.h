// How far results may lie from the truth, each bound with its derivation.
#pragma once

#include <cmath>
#include <cstddef>

#include "absl/types/span.h"

namespace sluice::testing {

// Unit roundoffs: half the distance of two neighbouring numbers, relative to them. bf16 has 8 bits
// of precision (7 stored), f32 has 24.
inline constexpr double kBf16Roundoff = 0x1p-8;
inline constexpr double kF32Roundoff = 0x1p-24;

// Normalised mean squared error: |actual - expected|^2 / |expected|^2.
template <typename A, typename B>
double Nmse(absl::Span<const A> actual, absl::Span<const B> expected) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = double{actual[i]} - double{expected[i]};
    error += difference * difference;
    norm += double{expected[i]} * double{expected[i]};
  }
  return norm > 0 ? error / norm : error;
}

// A sum of k products in f32, in any order and with or without fused multiply-add, is off by at
// most k u / (1 - k u) times the sum of the products' magnitudes (Higham, Accuracy and Stability of
// Numerical Algorithms, section 3.1).
inline double DotErrorBound(size_t k, double sum_of_magnitudes) {
  const double ku = static_cast<double>(k + 1) * kF32Roundoff;
  return ku / (1 - ku) * sum_of_magnitudes;
}

// Logits in f32 against f64, for the small random models of the tests. Each of a few dozen
// operations in a row rounds with a relative error of about u sqrt(K) < 1e-6; such models magnify a
// relative disturbance of their parameters up to 250 times on its way to the logits (measured: the
// golden checkpoints' logits move by up to 0.5 % when parameters move by 2e-5). A wrong formula is
// far outside: it moves logits by per cents.
inline constexpr double kF32LogitsNmse = (250 * 1e-6) * (250 * 1e-6);

// Logits with bf16 weights against the truth. What bf16 costs is known exactly: every weight and
// every activation that enters a product is rounded, once, with a relative error of at most
// kBf16Roundoff, and so are keys and values, as the cache holds bf16, with the queries and softmax
// weights that meet them; sums, norms, softmax and routing stay f32. A simulation in f64 that
// rounds at the same places has the same error (weights are rounded relative to the largest score
// so far there, and of all here: different numbers, the same error on average), except where a
// number lies so close to the middle between two bf16 numbers that f32's own error decides: with
// errors of some 1e-6 against distances of 2^-8, one number in a thousand, which then errs no more
// than any other. So the engine's NMSE is the simulation's to a few per cent (measured on the
// golden checkpoints: 1 %); twice the simulation's is the bound.
inline double Bf16LogitsNmseBound(double simulated_nmse) {
  return 2 * simulated_nmse + kF32LogitsNmse;
}

}  // namespace sluice::testing
