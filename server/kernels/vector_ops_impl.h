// The functions of vector_ops.h over the vectors of vectors.h. Included once by each file that is
// compiled for one instruction set.
#pragma once

#include <stdint.h>
#include <string.h>

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

// Columns of a block, as packed_matrix.h says; that is not included, as no inline function may be
// compiled here.
constexpr int kColumns = 32;
constexpr int kColumnVecs = kColumns / kLanes;
// Rows whose sums stay in registers: 16 sums of AVX-512's 32 registers, 12 of AVX2's 16.
constexpr int kMaxProductRows = kLanes == 16 ? 8 : 3;
// Bytes that a product fetches ahead, into the next block at its end: blocks come from memory, and
// what is read is used at once.
constexpr int64_t kFetchAhead = 8192;

// c [rows, 32] += a b over `steps` steps of k; the rows of a are k apart. rows <= kRows.
template <int kRows>
inline void AddProducts(int rows, int64_t steps, int64_t k, const float* a, const float* b,
                        float* c) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return AddProducts<kRows - 1>(rows, steps, k, a, b, c);
  }
  Vec sums[kRows][kColumnVecs];
  for (int m = 0; m < kRows; ++m) {
    for (int v = 0; v < kColumnVecs; ++v) sums[m][v] = Load(c + m * kColumns + v * kLanes);
  }
  for (int64_t i = 0; i < steps; ++i) {
    const float* line = b + i * kColumns;
    for (int64_t byte = 0; byte < 4 * kColumns; byte += 64)
      __builtin_prefetch(reinterpret_cast<const std::byte*>(line) + kFetchAhead + byte);
    Vec w[kColumnVecs];
    for (int v = 0; v < kColumnVecs; ++v) w[v] = Load(line + v * kLanes);
    for (int m = 0; m < kRows; ++m) {
      const Vec x = Set(a[m * k + i]);
      for (int v = 0; v < kColumnVecs; ++v) sums[m][v] = Fma(x, w[v], sums[m][v]);
    }
  }
  for (int m = 0; m < kRows; ++m) {
    for (int v = 0; v < kColumnVecs; ++v) Store(c + m * kColumns + v * kLanes, sums[m][v]);
  }
}

// The block streams through once: with more rows than have their sums in registers, a part of it
// that fits into the first-level cache (8 KiB) meets all rows before the next.
void MultiplyF32(int m, int64_t k, const float* a, const float* b, float* c) {
  constexpr int64_t kPart = 64;
  const int64_t part = m <= kMaxProductRows ? k : kPart;
  memset(c, 0, sizeof(float) * m * kColumns);
  for (int64_t i = 0; i < k; i += part) {
    const int64_t steps = k - i < part ? k - i : part;
    for (int row = 0; row < m; row += kMaxProductRows) {
      const int rows = m - row < kMaxProductRows ? m - row : kMaxProductRows;
      AddProducts<kMaxProductRows>(rows, steps, k, a + row * k + i, b + i * kColumns,
                                   c + row * kColumns);
    }
  }
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

// Lanes beyond n do not matter: -infinity is never the greatest unless all are.
float MaxOf(const float* x, int64_t n) {
  const Vec least = Set(-__builtin_inff());
  Vec max[4] = {least, least, least, least};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int u = 0; u < 4; ++u) max[u] = Max(Load(x + i + u * kLanes), max[u]);
  }
  for (; i + kLanes <= n; i += kLanes) max[0] = Max(Load(x + i), max[0]);
  if (i < n) max[1] = Max(LoadPart(x + i, n - i, least), max[1]);
  return Max(Max(Max(max[0], max[1]), Max(max[2], max[3])));
}

int64_t ArgMax(const float* x, int64_t n) {
  // Remembers the block that the greatest is in, so as to look for it there alone.
  constexpr int64_t kBlock = 1024;
  float max = -__builtin_inff();
  int64_t block = 0;
  for (int64_t i = 0; i < n; i += kBlock) {
    const float here = MaxOf(x + i, n - i < kBlock ? n - i : kBlock);
    if (here > max) {
      max = here;
      block = i;
    }
  }
  for (int64_t i = block; i < n; ++i) {
    if (x[i] == max) return i;
  }
  return 0;
}

float ExpSum(const float* x, float shift, float scale, float least, float* y, int64_t n) {
  const auto term = [=](Vec v) {
    const Vec t = (v - shift) * scale;
    const Vec e = Exp(t);
    // False for NaN, too.
    return e >= Set(least) ? e : Vec{};
  };
  Vec sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int u = 0; u < 4; ++u) {
      const Vec e = term(Load(x + i + u * kLanes));
      Store(y + i + u * kLanes, e);
      sums[u] += e;
    }
  }
  for (; i + kLanes <= n; i += kLanes) {
    const Vec e = term(Load(x + i));
    Store(y + i, e);
    sums[0] += e;
  }
  if (i < n) {
    // Lanes beyond n are e^-infinity.
    const Vec e = term(LoadPart(x + i, n - i, Set(-__builtin_inff())));
    StorePart(y + i, e, n - i);
    sums[1] += e;
  }
  return Sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

void Softmax(float* x, int64_t n) {
  const float max = MaxOf(x, n);
  Vec sums[2] = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    for (int u = 0; u < 2; ++u) {
      const Vec e = Exp(Load(x + i + u * kLanes) - max);
      Store(x + i + u * kLanes, e);
      sums[u] += e;
    }
  }
  for (; i < n; i += kLanes) {
    const int64_t part = n - i < kLanes ? n - i : kLanes;
    StorePart(x + i, Exp(LoadPart(x + i, part) - max), part);
    sums[1] += LoadPart(x + i, part);
  }
  const float sum = Sum(sums[0] + sums[1]);
  Map(x, x, n, [=](Vec v) { return v / sum; });
}

void AddScaled(float scale, const float* x, float* y, int64_t n) {
  Map(x, y, y, n, [=](Vec v, Vec sum) { return sum + scale * v; });
}

void AddRows(const float* x, int64_t rows, int64_t n, float* y) {
  // Several vectors of each row at a time: whole cache lines, where rows are aligned.
  constexpr int kVecs = 4;
  int64_t i = 0;
  for (; i + kVecs * kLanes <= n; i += kVecs * kLanes) {
    Vec sums[kVecs];
    for (int v = 0; v < kVecs; ++v) sums[v] = Load(x + i + v * kLanes);
    for (int64_t row = 1; row < rows; ++row) {
      for (int v = 0; v < kVecs; ++v) sums[v] += Load(x + row * n + i + v * kLanes);
    }
    for (int v = 0; v < kVecs; ++v) {
      float* const to = y + i + v * kLanes;
      Store(to, Load(to) + sums[v]);
    }
  }
  for (; i < n; i += kLanes) {
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

// Swaps lane i of vector j with lane j of vector i, in steps of doubling squares.
template <int kStep>
inline void TurnSquares(Bits* v) {
  Bits low;
  Bits high;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool second = (lane & kStep) != 0;
    low[lane] = second ? lane - kStep + kLanes : lane;
    high[lane] = second ? lane + kLanes : lane + kStep;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if ((i & kStep) != 0) continue;
    const Bits a = v[i];
    const Bits b = v[i + kStep];
    v[i] = Shuffle(a, b, low);
    v[i + kStep] = Shuffle(a, b, high);
  }
  if constexpr (2 * kStep < kLanes) TurnSquares<2 * kStep>(v);
}

void TurnBf16(const std::byte* const* rows, uint16_t* pairs) {
  constexpr int kRows = 32;
  constexpr int kPairs = 16;
  for (int n = 0; n < kRows; n += kLanes) {
    for (int p = 0; p < kPairs; p += kLanes) {
      Bits v[kLanes];
      for (int i = 0; i < kLanes; ++i) memcpy(&v[i], rows[n + i] + 4 * p, sizeof(Bits));
      TurnSquares<1>(v);
      for (int i = 0; i < kLanes; ++i)
        memcpy(pairs + 2 * ((p + i) * kRows + n), &v[i], sizeof(Bits));
    }
  }
}

void WidenBf16Pairs(const uint16_t* pairs, float* tile) {
  constexpr int kRows = 32;
  constexpr int kPairs = 16;
  for (int p = 0; p < kPairs; ++p) {
    for (int n = 0; n < kRows; n += kLanes) {
      Bits v;
      memcpy(&v, pairs + 2 * (p * kRows + n), sizeof(v));
      Store(tile + 2 * p * kRows + n, AsVec(v << 16));
      Store(tile + (2 * p + 1) * kRows + n, AsVec(v & 0xffff0000u));
    }
  }
}

uint16_t LargestHalf(const std::byte* x, int64_t n) {
  HalfBits largest[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int u = 0; u < 4; ++u) {
      HalfBits v;
      memcpy(&v, x + 2 * (i + u * kLanes), sizeof(v));
      v &= 0x7fff;
      largest[u] = v > largest[u] ? v : largest[u];
    }
  }
  uint16_t result = 0;
  for (int u = 0; u < 4; ++u) {
    for (int lane = 0; lane < kLanes; ++lane)
      result = largest[u][lane] > result ? largest[u][lane] : result;
  }
  for (; i < n; ++i) {
    uint16_t bits;
    memcpy(&bits, x + 2 * i, sizeof(bits));
    bits &= 0x7fff;
    result = bits > result ? bits : result;
  }
  return result;
}

// To nearest, ties to even; NaN stays NaN.
inline HalfBits RoundToBf16(Vec v) {
  const Bits bits = AsBits(v);
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Bits nan = (bits >> 16) | 0x40u;
  return __builtin_convertvector((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded, HalfBits);
}

void ToBf16(const float* x, uint16_t* y, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const HalfBits halves = RoundToBf16(Load(x + i));
    memcpy(y + i, &halves, sizeof(halves));
  }
  if (i < n) {
    const HalfBits halves = RoundToBf16(LoadPart(x + i, n - i));
    memcpy(y + i, &halves, 2 * static_cast<size_t>(n - i));
  }
}

inline Bits LoadHalves(const uint16_t* x, int64_t n) {
  HalfBits halves = {};
  memcpy(&halves, x, 2 * static_cast<size_t>(n));
  return __builtin_convertvector(halves, Bits);
}

void FromBf16(const uint16_t* x, float* y, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(y + i, AsVec(LoadHalves(x + i, kLanes) << 16));
  if (i < n) StorePart(y + i, AsVec(LoadHalves(x + i, n - i) << 16), n - i);
}

// A binary16 number's bits at a float's place are the number times 2^-112, subnormal or not; for
// infinity and NaN the exponent's remaining bits are set as well.
inline Vec FromHalves(Bits halves) {
  const Bits magnitude = (halves & 0x7fffu) << 13;
  const Bits scaled = AsBits(AsVec(magnitude) * 0x1p112f);
  const Bits special = magnitude | 0x7f800000u;
  const Bits bits = (halves & 0x7c00u) == 0x7c00u ? special : scaled;
  return AsVec(bits | ((halves & 0x8000u) << 16));
}

void FromF16(const uint16_t* x, float* y, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(y + i, FromHalves(LoadHalves(x + i, kLanes)));
  if (i < n) StorePart(y + i, FromHalves(LoadHalves(x + i, n - i)), n - i);
}

constexpr VectorOps MakeVectorOps(const char* name) {
  return {name,     Dot,     MultiplyF32, RmsNorm,  SiluMul,        Softmax,     AddScaled,
          AddRows,  Scale,   Rotate,      TurnBf16, WidenBf16Pairs, LargestHalf, ToBf16,
          FromBf16, FromF16, MaxOf,       ArgMax,   ExpSum};
}

}  // namespace
}  // namespace sluice::kernels
