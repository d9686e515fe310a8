// Vectors of SLUICE_LANES floats, and what the kernels do with them. Included only by files that
// are compiled for one instruction set; everything is in an unnamed namespace, so that no function
// compiled for it can be linked into generic code.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#ifndef SLUICE_LANES
#error "define SLUICE_LANES: 8 for AVX2, 16 for AVX-512"
#endif

namespace sluice::kernels {
namespace {

constexpr int kLanes = SLUICE_LANES;
typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));
typedef uint16_t HalfBits __attribute__((vector_size(2 * kLanes)));

inline Vec Load(const float* p) {
  Vec v;
  memcpy(&v, p, sizeof(v));
  return v;
}
inline void Store(float* p, Vec v) { memcpy(p, &v, sizeof(v)); }
// The first n <= kLanes lanes; the others are zero. A copy whose size the compiler does not know is
// a call, so whole vectors have a path of their own here and in StorePart.
inline Vec LoadPart(const float* p, int64_t n) {
  if (n == kLanes) return Load(p);
  Vec v = {};
  memcpy(&v, p, 4 * static_cast<size_t>(n));
  return v;
}
// The first n lanes; the others are as in `rest`.
inline Vec LoadPart(const float* p, int64_t n, Vec rest) {
  memcpy(&rest, p, 4 * static_cast<size_t>(n));
  return rest;
}
inline void StorePart(float* p, Vec v, int64_t n) {
  if (n == kLanes) return Store(p, v);
  memcpy(p, &v, 4 * static_cast<size_t>(n));
}
inline Vec Set(float x) { return x - Vec{}; }
inline Bits AsBits(Vec v) {
  Bits bits;
  memcpy(&bits, &v, sizeof(v));
  return bits;
}
inline Vec AsVec(Bits bits) {
  Vec v;
  memcpy(&v, &bits, sizeof(v));
  return v;
}

// Lane i is lane from[i] of a and b side by side.
inline Bits Shuffle(Bits a, Bits b, Bits from) {
#if defined(__clang__)
  Bits result;
  for (int i = 0; i < kLanes; ++i) result[i] = from[i] < kLanes ? a[from[i]] : b[from[i] - kLanes];
  return result;
#else
  return __builtin_shuffle(a, b, from);
#endif
}

// As the instructions have it: b if either is NaN.
inline Vec Min(Vec a, Vec b) {
#if SLUICE_LANES == 16
  return (Vec)_mm512_min_ps((__m512)a, (__m512)b);
#else
  return (Vec)_mm256_min_ps((__m256)a, (__m256)b);
#endif
}
inline Vec Max(Vec a, Vec b) {
#if SLUICE_LANES == 16
  return (Vec)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return (Vec)_mm256_max_ps((__m256)a, (__m256)b);
#endif
}

// a b + c, rounded once whatever the compiler makes of the code around it.
inline Vec Fma(Vec a, Vec b, Vec c) {
#if SLUICE_LANES == 16
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
}

// The greatest lane. REQUIRES: none is NaN.
inline float Max(Vec v) {
  float lanes[kLanes];
  Store(lanes, v);
  for (int n = kLanes / 2; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) lanes[i] = lanes[i] > lanes[i + n] ? lanes[i] : lanes[i + n];
  }
  return lanes[0];
}

// The sum of all lanes, in halves.
inline float Sum(Vec v) {
  float lanes[kLanes];
  Store(lanes, v);
  for (int n = kLanes / 2; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  }
  return lanes[0];
}

// e^x to about 2 units in the last place: x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its Taylor
// series to the seventh power (the next term is below 2^-27), times 2^n. 0 below the smallest
// normal number; from 88.37 on, where 2^n would overflow, the value there. NaN stays NaN.
inline Vec Exp(Vec x) {
  const Vec low = Set(-87.33f);
  const Vec high = Set(88.37f);
  const Vec clamped = x < low ? low : (x > high ? high : x);
  const Vec magic = Set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec shifted = clamped * 1.44269504f + magic;
  const Vec n = shifted - magic;
  // ln 2 in two parts, the first exact when multiplied by n.
  const Vec r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec e = Set(1.0f / 5040);
  e = e * r + 1.0f / 720;
  e = e * r + 1.0f / 120;
  e = e * r + 1.0f / 24;
  e = e * r + 1.0f / 6;
  e = e * r + 0.5f;
  e = e * r + 1.0f;
  e = e * r + 1.0f;
  // n lies between -126 and 127.
  const Bits power = (AsBits(shifted) - AsBits(magic) + 127u) << 23;
  e = e * AsVec(power);
  return x < low ? Vec{} : e;
}

}  // namespace
}  // namespace sluice::kernels
