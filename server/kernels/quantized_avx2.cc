// int8 and int4 products with AVX2, exact: AVX2's own product of bytes adds pairs in 16 bits, which
// int8 would overflow. So int8 is widened to 16 bits first; levels of int4 are small enough.
#define SLUICE_LANES 8
#include <immintrin.h>

#include "kernels/quantized_impl.h"

namespace sluice::kernels {
namespace {

inline __m256i LoadVector(const std::byte* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}
inline int32_t LoadQuad(const std::byte* p) {
  int32_t quad;
  memcpy(&quad, p, sizeof(quad));
  return quad;
}

// Two neighbouring sums for each of eight columns become one.
inline __m256i AddNeighbours(__m256i first, __m256i second) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(first, second), 0xd8);
}

// Columns [first, first + 16) of kRows rows.
template <int kRows>
void Int8HalfBlock(int first, int64_t k, const std::byte* a, int64_t row_bytes,
                   const std::byte* block, float* c) {
  __m256i sums[kRows][4];
  for (int m = 0; m < kRows; ++m) {
    for (int j = 0; j < 4; ++j) sums[m][j] = _mm256_setzero_si256();
  }
  for (int64_t i = 0; i < k; i += 4) {
    const std::byte* weights = block + i * kColumns + 4 * first;
    __m256i x[kRows];
    for (int m = 0; m < kRows; ++m)
      x[m] = _mm256_cvtepu8_epi16(_mm_set1_epi32(LoadQuad(a + kRowHeader + m * row_bytes + i)));
    for (int j = 0; j < 4; ++j) {
      const __m256i w =
          _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(weights + 16 * j)));
      for (int m = 0; m < kRows; ++m)
        sums[m][j] = _mm256_add_epi32(sums[m][j], _mm256_madd_epi16(x[m], w));
    }
  }
  for (int m = 0; m < kRows; ++m) {
    __m256i* to = reinterpret_cast<__m256i*>(c + m * kColumns + first);
    _mm256_store_si256(to, AddNeighbours(sums[m][0], sums[m][1]));
    _mm256_store_si256(to + 1, AddNeighbours(sums[m][2], sums[m][3]));
  }
}

void MultiplyInt8(int m, int64_t k, const std::byte* a, int64_t row_bytes, const std::byte* block,
                  float* c) {
  int row = 0;
  for (; row + 2 <= m; row += 2) {
    for (int first = 0; first < kColumns; first += 16)
      Int8HalfBlock<2>(first, k, a + row * row_bytes, row_bytes, block, c + row * kColumns);
  }
  if (row < m) {
    for (int first = 0; first < kColumns; first += 16)
      Int8HalfBlock<1>(first, k, a + row * row_bytes, row_bytes, block, c + row * kColumns);
  }
  FinishInt8(m, k, a, row_bytes, block, c);
}

inline __m256 LoadScales(const std::byte* p) {
  const __m128i halves = _mm_load_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

// Eight columns of one group of 32 steps of k, unpacked.
struct Int4Group {
  __m256i levels[8];
  __m256 scale;
};

// The sum of four products of a level (at most 15) and a byte, by pairs, is below 2^15.
inline __m256i AddQuads(const __m256i* levels, const std::byte* numbers) {
  __m256i sum = _mm256_maddubs_epi16(_mm256_set1_epi32(LoadQuad(numbers)), levels[0]);
  for (int quad = 1; quad < 4; ++quad) {
    sum = _mm256_add_epi16(
        sum, _mm256_maddubs_epi16(_mm256_set1_epi32(LoadQuad(numbers + 4 * quad)), levels[quad]));
  }
  return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}

void MultiplyInt4(int m, int64_t k, const std::byte* a, int64_t row_bytes, const std::byte* block,
                  float* c) {
  memset(c, 0, sizeof(float) * m * kColumns);
  const __m256i mask = _mm256_set1_epi8(15);
  for (int64_t g = 0; g < k / kGroup; ++g) {
    const std::byte* lines = block + g * kInt4GroupBytes;
    for (int n = 0; n < kColumns; n += kLanes) {
      Int4Group group;
      group.scale = LoadScales(lines + 2 * n);
      for (int pair = 0; pair < kGroup / 8; ++pair) {
        const __m256i line = LoadVector(lines + kInt4ScaleBytes + (pair * kColumns + n) * 4);
        group.levels[2 * pair] = _mm256_and_si256(line, mask);
        group.levels[2 * pair + 1] = _mm256_and_si256(_mm256_srli_epi16(line, 4), mask);
      }
      for (int row = 0; row < m; ++row) {
        const std::byte* numbers = a + row * row_bytes + kRowHeader;
        const __m256i offset = _mm256_set1_epi32(LoadQuad(numbers + k + 4 * g));
        const __m256i dot =
            _mm256_add_epi32(_mm256_add_epi32(offset, AddQuads(group.levels, numbers + g * kGroup)),
                             AddQuads(group.levels + 4, numbers + g * kGroup + 16));
        float* to = c + row * kColumns + n;
        _mm256_store_ps(to,
                        _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), group.scale, _mm256_load_ps(to)));
      }
    }
  }
  FinishInt4(m, k, a, row_bytes, block, c);
}

}  // namespace

const QuantizedOps* Avx2QuantizedOps() {
  static constexpr QuantizedOps kOps = {"avx2",     QuantizeRow,   MultiplyInt8, MultiplyInt4,
                                        FinishInt8, PackInt8Group, PackInt4Group};
  return &kOps;
}

}  // namespace sluice::kernels
