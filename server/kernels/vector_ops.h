// VectorOps: the maths between the matrix products, as a table of functions with one implementation
// per instruction set. Each result depends on its own arguments alone, bit by bit.
#pragma once

#include <cstdint>

namespace sluice::kernels {

// The running state of one query row's softmax over the blocks seen so far (arXiv:2205.14135).
struct SoftmaxState {
  float max;
  float sum;
};

// Pointers need no alignment; n >= 1. Arrays of one call do not overlap unless they are the same.
struct VectorOps {
  const char* name;

  // sum of a[i] * b[i]
  float (*dot)(const float* a, const float* b, int64_t n);

  // y[i] = x[i] * weight[i] / sqrt(mean of squares + eps) (arXiv:1910.07467); y may be x
  void (*rms_norm)(const float* x, const float* weight, float eps, float* y, int64_t n);

  // y[i] = silu(gate[i]) * up[i], with silu(x) = x / (1 + exp(-x)); y may be gate
  void (*silu_mul)(const float* gate, const float* up, float* y, int64_t n);

  // In place; returns nothing special for NaN: all become NaN.
  void (*softmax)(float* x, int64_t n);

  // y[i] += scale * x[i]
  void (*add_scaled)(float scale, const float* x, float* y, int64_t n);

  // y[i] += x[0][i] + x[1][i] + ... for `rows` rows of n, which are added up first, in this order
  void (*add_rows)(const float* x, int64_t rows, int64_t n, float* y);

  // y[i] = scale * x[i]; y may be x
  void (*scale)(float scale, const float* x, float* y, int64_t n);

  // Rotates the pairs (x[i], x[i + half]) by angles given as cos[i] and sin[i], i < half.
  void (*rotate)(float* x, const float* cos, const float* sin, int64_t half);

  // Rounds to nearest, ties to even.
  void (*to_bf16)(const float* x, uint16_t* y, int64_t n);

  // One query row meets positions [first, last) of one block of paged_kv.h: updates its softmax
  // state and its unnormalised output acc [head_dim]. Positions outside are not read as values.
  // Start with {-infinity, 0} and zeros. REQUIRES: 0 <= first < last <= kKvBlock.
  void (*attend_block)(const float* q, const float* keys, const float* values, int head_dim,
                       float scale, int first, int last, SoftmaxState* state, float* acc);
};

// Null if the program was not built for this instruction set.
const VectorOps* Avx2VectorOps();
const VectorOps* Avx512VectorOps();

}  // namespace sluice::kernels
