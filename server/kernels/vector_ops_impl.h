// The functions of vector_ops.h over the vectors of vectors.h. Included once by each file that is
// compiled for one instruction set.
#pragma once

#include <stdint.h>
#include <string.h>

#include "kernels/paged_kv.h"
#include "kernels/vector_ops.h"
#include "kernels/vectors.h"

namespace sluice::kernels {
namespace {

float Dot(const float* a, const float* b, int64_t n) {
  Vec sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int u = 0; u < 4; ++u) sums[u] += Load(a + i + u * kLanes) * Load(b + i + u * kLanes);
  }
  for (; i + kLanes <= n; i += kLanes) sums[0] += Load(a + i) * Load(b + i);
  if (i < n) sums[1] += LoadPart(a + i, n - i) * LoadPart(b + i, n - i);
  return Sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// Applies f(vector of x) -> vector to all of x into y, the rest of a vector by parts.
template <typename F>
inline void Map(const float* x, float* y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(y + i, f(Load(x + i)));
  if (i < n) StorePart(y + i, f(LoadPart(x + i, n - i)), n - i);
}
template <typename F>
inline void Map(const float* x, const float* z, float* y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(y + i, f(Load(x + i), Load(z + i)));
  if (i < n) StorePart(y + i, f(LoadPart(x + i, n - i), LoadPart(z + i, n - i)), n - i);
}

void RmsNorm(const float* x, const float* weight, float eps, float* y, int64_t n) {
  const float mean = Dot(x, x, n) / static_cast<float>(n);
  const Vec scale = Set(1.0f / __builtin_sqrtf(mean + eps));
  Map(x, weight, y, n, [=](Vec v, Vec w) { return v * scale * w; });
}

void SiluMul(const float* gate, const float* up, float* y, int64_t n) {
  Map(gate, up, y, n, [](Vec g, Vec u) { return g / (1.0f + Exp(-g)) * u; });
}

void Softmax(float* x, int64_t n) {
  float max = x[0];
  for (int64_t i = 1; i < n; ++i) max = x[i] > max ? x[i] : max;
  Map(x, x, n, [=](Vec v) { return Exp(v - max); });
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  Map(x, x, n, [=](Vec v) { return v / sum; });
}

void AddScaled(float scale, const float* x, float* y, int64_t n) {
  Map(x, y, y, n, [=](Vec v, Vec sum) { return sum + scale * v; });
}

void AddRows(const float* x, int64_t rows, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t part = n - i < kLanes ? n - i : kLanes;
    Vec sum = LoadPart(x + i, part);
    for (int64_t row = 1; row < rows; ++row) sum += LoadPart(x + row * n + i, part);
    StorePart(y + i, LoadPart(y + i, part) + sum, part);
  }
}

void Scale(float scale, const float* x, float* y, int64_t n) {
  Map(x, y, n, [=](Vec v) { return scale * v; });
}

void Rotate(float* x, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; i += kLanes) {
    const int64_t n = half - i < kLanes ? half - i : kLanes;
    const Vec a = LoadPart(x + i, n);
    const Vec b = LoadPart(x + i + half, n);
    const Vec c = LoadPart(cos + i, n);
    const Vec s = LoadPart(sin + i, n);
    StorePart(x + i, a * c - b * s, n);
    StorePart(x + i + half, b * c + a * s, n);
  }
}

void ToBf16(const float* x, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t part = n - i < kLanes ? n - i : kLanes;
    const Bits bits = AsBits(LoadPart(x + i, part));
    const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const Bits nan = (bits >> 16) | 0x40u;
    const HalfBits result =
        __builtin_convertvector((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded, HalfBits);
    memcpy(y + i, &result, 2 * static_cast<size_t>(part));
  }
}

void AttendBlock(const float* q, const float* keys, const float* values, int head_dim, float scale,
                 int first, int last, SoftmaxState* state, float* acc) {
  constexpr int kVecs = kKvBlock / kLanes;
  Vec sums[4][kVecs] = {};
  int d = 0;
  for (; d + 4 <= head_dim; d += 4) {
    for (int u = 0; u < 4; ++u) {
      for (int v = 0; v < kVecs; ++v)
        sums[u][v] += q[d + u] * Load(keys + (d + u) * kKvBlock + v * kLanes);
    }
  }
  for (; d < head_dim; ++d) {
    for (int v = 0; v < kVecs; ++v) sums[0][v] += q[d] * Load(keys + d * kKvBlock + v * kLanes);
  }
  float p[kKvBlock];
  for (int v = 0; v < kVecs; ++v)
    Store(p + v * kLanes, ((sums[0][v] + sums[1][v]) + (sums[2][v] + sums[3][v])) * scale);

  float max = state->max;
  for (int j = first; j < last; ++j) max = p[j] > max ? p[j] : max;
  const float correction = state->max == max ? 1.0f : Exp(Set(state->max - max))[0];
  for (int v = 0; v < kVecs; ++v) Store(p + v * kLanes, Exp(Load(p + v * kLanes) - max));

  float sum = state->sum * correction;
  for (int j = first; j < last; ++j) sum += p[j];
  state->max = max;
  state->sum = sum;

  for (int i = 0; i < head_dim; i += kLanes) {
    const int n = head_dim - i < kLanes ? head_dim - i : kLanes;
    if (n == kLanes) {
      Vec a = Load(acc + i) * correction;
      for (int j = first; j < last; ++j) a += p[j] * Load(values + j * head_dim + i);
      Store(acc + i, a);
    } else {
      Vec a = LoadPart(acc + i, n) * correction;
      for (int j = first; j < last; ++j) a += p[j] * LoadPart(values + j * head_dim + i, n);
      StorePart(acc + i, a, n);
    }
  }
}

constexpr VectorOps MakeVectorOps(const char* name) {
  return {name,    Dot,   RmsNorm, SiluMul, Softmax,    AddScaled,
          AddRows, Scale, Rotate,  ToBf16,  AttendBlock};
}

}  // namespace
}  // namespace sluice::kernels
