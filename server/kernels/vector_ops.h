// VectorOps: the maths between the matrix products, as a table of functions with one implementation
// per instruction set. Each result depends on its own arguments alone, bit by bit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::kernels {

// Pointers need no alignment; n >= 1. Arrays of one call do not overlap unless they are the same.
struct VectorOps {
  const char* name;

  // sum of a[i] * b[i]
  float (*dot)(const float* a, const float* b, int64_t n);

  // c [m, 32] = a [m, k] b, with b one block of an f32 matrix (packed_matrix.h); 1 <= m <= 32.
  // Every sum is one chain in the order of k, so a row's do not depend on m.
  void (*multiply_f32)(int m, int64_t k, const float* a, const float* b, float* c);

  // y[i] = x[i] * weight[i] / sqrt(mean of squares + eps) (arXiv:1910.07467); y may be x
  void (*rms_norm)(const float* x, const float* weight, float eps, float* y, int64_t n);

  // y[i] = silu(gate[i]) * up[i], with silu(x) = x / (1 + exp(-x)); y may be gate
  void (*silu_mul)(const float* gate, const float* up, float* y, int64_t n);

  // In place. A NaN anywhere makes all of them NaN.
  void (*softmax)(float* x, int64_t n);

  // y[i] += scale * x[i]
  void (*add_scaled)(float scale, const float* x, float* y, int64_t n);

  // y[i] += x[0][i] + x[1][i] + ... for `rows` >= 1 rows of n, which are added up first, in this
  // order
  void (*add_rows)(const float* x, int64_t rows, int64_t n, float* y);

  // y[i] = scale * x[i]; y may be x
  void (*scale)(float scale, const float* x, float* y, int64_t n);

  // Rotates the pairs (x[i], x[i + half]) by angles given as cos[i] and sin[i], i < half.
  void (*rotate)(float* x, const float* cos, const float* sin, int64_t half);

  // Turns 32 numbers bf16 from each of 32 rows (unaligned) into [16][32][2]: pair p of row n.
  void (*turn_bf16)(const std::byte* const* rows, uint16_t* pairs);

  // tile [32][32] from pairs [16][32][2]: the first of a pair goes to row 2p, the second to 2p + 1.
  void (*widen_bf16_pairs)(const uint16_t* pairs, float* tile);

  // The greatest of n bf16 or binary16 numbers (unaligned) without their signs, as bits; NaN is
  // greater than infinity.
  uint16_t (*largest_half)(const std::byte* x, int64_t n);

  // Rounds to nearest, ties to even.
  void (*to_bf16)(const float* x, uint16_t* y, int64_t n);

  // Exact; NaN stays NaN.
  void (*from_bf16)(const uint16_t* x, float* y, int64_t n);
  void (*from_f16)(const uint16_t* x, float* y, int64_t n);

  // The greatest number; NaN does not count, and -infinity is what is left without numbers.
  float (*max)(const float* x, int64_t n);

  // Where the greatest number is, the first of several; 0 if there are only NaNs.
  int64_t (*argmax)(const float* x, int64_t n);

  // y[i] = e^((x[i] - shift) * scale), or 0 if that is NaN or less than `least`; returns the sum of
  // y, which may be x. REQUIRES: scale >= 0, finite.
  float (*exp_sum)(const float* x, float shift, float scale, float least, float* y, int64_t n);
};

// Null if the program was not built for this instruction set.
const VectorOps* Avx2VectorOps();
const VectorOps* Avx512VectorOps();

}  // namespace sluice::kernels
