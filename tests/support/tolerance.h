// How far results may lie from the truth, each bound with its derivation.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

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

// A product with int8 weights: its sum is exact, so only three things round, whatever K is: the sum
// becomes an f32, the two scales are multiplied, and so are both results. The result's own rounding
// in a reference is the fourth.
inline double Int8ProductErrorBound(double product) {
  return 4.001 * kF32Roundoff * std::abs(product);
}

// A product with int4 weights adds G exact products of groups in f32, one rounding each, as does
// the sum of the column's weights, which then meets the zero point; the difference of both and the
// row's scale round once more. `sum_of_magnitudes` is that of all groups' products and of all their
// shares in the zero point's.
inline double Int4ProductErrorBound(int64_t num_groups, double sum_of_magnitudes) {
  return DotErrorBound(num_groups + 5, sum_of_magnitudes);
}

// Logits in f32 against f64, for the small random models of the tests. Each of a few dozen
// operations in a row rounds with a relative error of about u sqrt(K) < 1e-6; such models magnify a
// relative disturbance of their parameters up to 250 times on its way to the logits (measured: the
// golden checkpoints' logits move by up to 0.5 % when parameters move by 2e-5). A wrong formula is
// far outside: it moves logits by per cents.
inline constexpr double kF32LogitsNmse = (250 * 1e-6) * (250 * 1e-6);

// Logits in a format that rounds, against the truth. What the format costs is known exactly: every
// weight and every activation that enters a product is rounded, once, and sums, norms, softmax,
// routing and the cache stay f32. A simulation in f64 that rounds at the very same places has the
// same error, but for this:
//
// - A number may lie so close to the middle between two neighbours of the format that f32's own
//   error of some 1e-6 decides: relative to the distance of neighbours that is 2.6e-4 in bf16
//   (2^-8 apart) and in u8 (255 steps), so some numbers in ten thousand, which then err no more
//   than any other. Measured on the golden checkpoints: the NMSE is the simulation's to 1 % in
//   bf16, and in int8 to 4 % but for one short prompt's 20 %.
// - The scales of int4 come from a coarser search than the reference's. A group's squared error is
//   that of the reference's search to 5 % on average (quantized_ops_test), but it is another error:
//   two draws from one distribution, and all tokens of a prompt share the draw. Measured on the
//   golden checkpoints: NMSEs within 45 % of the simulation's for the shortest prompts, within 10 %
//   for the longest.
//
// So twice the simulation's is the bound. A mistake is far outside of it: one wrong scale, sum or
// zero point is as large as what it belongs to, and int4 itself costs only 0.7 % of a product.
inline double RoundedLogitsNmseBound(double simulated_nmse) {
  return 2 * simulated_nmse + kF32LogitsNmse;
}

}  // namespace sluice::testing
