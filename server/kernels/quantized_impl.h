// The functions of quantized_ops.h that are the same for all vectors: quantising rows and packing
// weights. Included once by each file that is compiled for one instruction set.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/quantized_ops.h"
#include "kernels/vectors.h"

namespace sluice::kernels {
namespace {

// Columns of a block, weights of a group, and where things lie, as activation_rows.h and
// packed_matrix.h say; they are not included, as no inline function may be compiled here.
constexpr int kColumns = 32;
constexpr int kGroup = 32;
constexpr int kRowHeader = 64;
constexpr int kInt4ScaleBytes = 2 * kColumns;
constexpr int kInt4GroupBytes = kInt4ScaleBytes + kGroup * kColumns / 2;

typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint8_t Bytes __attribute__((vector_size(kLanes)));

inline float RowScale(const std::byte* row) {
  float scale;
  memcpy(&scale, row, sizeof(scale));
  return scale;
}
inline int32_t RowZeroPoint(const std::byte* row) {
  int32_t zero_point;
  memcpy(&zero_point, row + 4, sizeof(zero_point));
  return zero_point;
}
inline Ints LoadInts(const std::byte* p) {
  Ints v;
  memcpy(&v, p, sizeof(v));
  return v;
}
inline void StoreInts(void* p, Ints v) { memcpy(p, &v, sizeof(v)); }
inline Vec LoadFloats(const std::byte* p) {
  Vec v;
  memcpy(&v, p, sizeof(v));
  return v;
}
inline Vec ToFloats(Ints v) { return __builtin_convertvector(v, Vec); }

// The least lane. REQUIRES: none is NaN.
inline float MinOf(Vec v) {
  float lanes[kLanes];
  Store(lanes, v);
  for (int i = 1; i < kLanes; ++i) lanes[0] = lanes[i] < lanes[0] ? lanes[i] : lanes[0];
  return lanes[0];
}

// The nearest integer, ties to even, for |v| < 2^22: adding 1.5 * 2^23 leaves it in the low bits.
constexpr float kMagic = 12582912.0f;
inline Ints RoundToInts(Vec v) {
  const Bits bits = AsBits(v + kMagic) - AsBits(Set(kMagic));
  Ints result;
  memcpy(&result, &bits, sizeof(result));
  return result;
}
inline Vec Round(Vec v) { return (v + kMagic) - kMagic; }

// Of 32 bytes.
inline int32_t SumOfGroup(const std::byte* p) {
  __m256i bytes;
  memcpy(&bytes, p, sizeof(bytes));
  const __m256i sums = _mm256_sad_epu8(bytes, _mm256_setzero_si256());
  const __m128i pairs =
      _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  return _mm_cvtsi128_si32(pairs) + _mm_extract_epi16(pairs, 4);
}

void QuantizeRow(const float* x, int64_t k, int64_t padded_k, bool group_sums, std::byte* row) {
  Vec low = {};
  Vec high = {};
  Vec poison = {};  // zero times every x: NaN if one is not finite
  for (int64_t i = 0; i < k; i += kLanes) {
    const Vec v = k - i >= kLanes ? Load(x + i) : LoadPart(x + i, k - i);
    low = Min(v, low);
    high = Max(v, high);
    poison += v * 0.0f;
  }
  const float minimum = MinOf(low);
  const float range = -MinOf(-high) - minimum;
  // Below any number that matters; its inverse would not be finite.
  const bool is_zero = range < 1e-30f;
  const float scale = is_zero ? 0.0f : range * (1.0f / 255);
  const float inverse = is_zero ? 0.0f : 255.0f / range;
  float zero = RoundToInts(Set(-minimum * inverse))[0];
  zero = zero < 0 ? 0 : zero > 255 ? 255 : zero;
  const float reported_scale = scale + Sum(poison);
  const int32_t zero_point = static_cast<int32_t>(zero);
  memcpy(row, &reported_scale, 4);
  memcpy(row + 4, &zero_point, 4);

  std::byte* numbers = row + kRowHeader;
  for (int64_t i = 0; i < padded_k; i += kLanes) {
    const Vec v = k - i >= kLanes ? Load(x + i) : k > i ? LoadPart(x + i, k - i) : Vec{};
    const Vec q = Min(Max(Round(v * inverse) + zero, Vec{}), Set(255));
    const Bytes bytes = __builtin_convertvector(RoundToInts(q), Bytes);
    memcpy(numbers + i, &bytes, kLanes);
  }
  if (!group_sums) return;
  std::byte* sums = numbers + padded_k;
  for (int64_t g = 0; g < padded_k / kGroup; ++g) {
    const int32_t sum = -8 * SumOfGroup(numbers + g * kGroup);
    memcpy(sums + 4 * g, &sum, 4);
  }
}

void FinishInt8(int m, int64_t k, const std::byte* a, int64_t row_bytes, const std::byte* block,
                float* c) {
  const std::byte* scales = block + k * kColumns;
  const std::byte* sums = scales + 4 * kColumns;
  for (int row = 0; row < m; ++row) {
    const float scale = RowScale(a + row * row_bytes);
    const int32_t zero_point = RowZeroPoint(a + row * row_bytes);
    for (int n = 0; n < kColumns; n += kLanes) {
      float* to = c + row * kColumns + n;
      Ints dot;
      memcpy(&dot, to, sizeof(dot));
      dot -= LoadInts(sums + 4 * n) * zero_point;
      Store(to, ToFloats(dot) * (LoadFloats(scales + 4 * n) * scale));
    }
  }
}

// The same for int4, whose sums over groups are in c as f32.
void FinishInt4(int m, int64_t k, const std::byte* a, int64_t row_bytes, const std::byte* block,
                float* c) {
  const std::byte* sums = block + k / kGroup * kInt4GroupBytes;
  for (int row = 0; row < m; ++row) {
    const float scale = RowScale(a + row * row_bytes);
    const float zero_point = static_cast<float>(RowZeroPoint(a + row * row_bytes));
    for (int n = 0; n < kColumns; n += kLanes) {
      float* to = c + row * kColumns + n;
      Store(to, (Load(to) - zero_point * LoadFloats(sums + 4 * n)) * scale);
    }
  }
}

// Four bytes of a column side by side, from four vectors of integers.
inline Ints Interleave(const Ints* q) {
  return (q[0] & 0xff) | ((q[1] & 0xff) << 8) | ((q[2] & 0xff) << 16) | (q[3] << 24);
}

void PackInt8Group(const float* w, const float* inverse_scales, int32_t* sums, std::byte* to) {
  for (int n = 0; n < kColumns; n += kLanes) {
    const Vec inverse = Load(inverse_scales + n);
    Ints sum;
    memcpy(&sum, sums + n, sizeof(sum));
    for (int quad = 0; quad < kGroup / 4; ++quad) {
      Ints q[4];
      for (int i = 0; i < 4; ++i) {
        const Vec level = Load(w + (4 * quad + i) * kColumns + n) * inverse;
        // NaN becomes a level too, whose scale is NaN; as an integer it would overflow the sum.
        q[i] = RoundToInts(Min(Max(level, Set(-127)), Set(127)));
        sum += q[i];
      }
      StoreInts(to + (quad * kColumns + n) * 4, Interleave(q));
    }
    StoreInts(sums + n, sum);
  }
}

// A bf16 number's value, from a float: to nearest, ties to even.
inline Vec RoundToBf16(Vec v) {
  const Bits bits = AsBits(v);
  return AsVec((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
}

// The levels -8 to 7 nearest to w / scale.
inline Vec Int4Levels(Vec w, Vec inverse) { return Min(Max(Round(w * inverse), Set(-8)), Set(7)); }

inline Vec InverseOf(Vec v) { return v == 0.0f ? Vec{} : 1.0f / v; }

// Scales that are tried, as parts of the one that maps the largest weight of a group to level -8:
// from the one that maps it to -7, where both signs fit, to those that clip it.
constexpr float kClips[] = {8.0f / 7, 1.1f, 1.05f, 1.0f, 0.96f, 0.92f, 0.88f, 0.84f, 0.8f, 0.76f};

void PackInt4Group(const float* w, float* sums, std::byte* to) {
  for (int n = 0; n < kColumns; n += kLanes) {
    Vec largest = {};  // by magnitude, with its sign
    Vec magnitude = {};
    Vec poison = {};  // NaN if a weight is not finite
    for (int k = 0; k < kGroup; ++k) {
      const Vec v = Load(w + k * kColumns + n);
      const Vec m = Max(v, -v);
      poison += v * 0.0f;
      largest = m > magnitude ? v : largest;
      magnitude = Max(m, magnitude);
    }
    // Stays if the squares of all errors overflow.
    Vec best_scale = RoundToBf16(largest * (1.0f / -8));
    Vec best_error = Set(3e38f);
    const auto attempt = [&](Vec candidate) {
      const Vec scale = RoundToBf16(candidate);
      const Vec inverse = InverseOf(scale);
      Vec error = {};
      for (int k = 0; k < kGroup; ++k) {
        const Vec v = Load(w + k * kColumns + n);
        const Vec difference = v - Int4Levels(v, inverse) * scale;
        error += difference * difference;
      }
      best_scale = error < best_error ? scale : best_scale;
      best_error = Min(error, best_error);
    };
    for (const float clip : kClips) attempt(largest * (clip / -8));
    // For the levels found so far there is a best scale, by least squares.
    Vec products = {};
    Vec squares = {};
    const Vec best_inverse = InverseOf(best_scale);
    for (int k = 0; k < kGroup; ++k) {
      const Vec v = Load(w + k * kColumns + n);
      const Vec q = Int4Levels(v, best_inverse);
      products += v * q;
      squares += q * q;
    }
    attempt(products * InverseOf(squares));

    const Vec scale = best_scale;
    const Vec inverse = InverseOf(scale);
    const HalfBits stored = __builtin_convertvector(AsBits(scale + poison) >> 16, HalfBits);
    memcpy(to + 2 * n, &stored, sizeof(stored));
    Vec sum = {};
    for (int pair = 0; pair < kGroup / 8; ++pair) {
      Ints q[8];
      for (int i = 0; i < 8; ++i) {
        const Vec level = Int4Levels(Load(w + (8 * pair + i) * kColumns + n), inverse);
        sum += level;
        q[i] = RoundToInts(level) + 8;
      }
      // Of eight steps of k the first four lie in the low halves of the bytes.
      StoreInts(to + kInt4ScaleBytes + (pair * kColumns + n) * 4,
                Interleave(q) | (Interleave(q + 4) << 4));
    }
    Store(sums + n, Load(sums + n) + sum * scale);
  }
}

}  // namespace
}  // namespace sluice::kernels
