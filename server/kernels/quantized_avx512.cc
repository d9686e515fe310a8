// int8 and int4 products with AVX512_VNNI.
//
// Few rows stay in registers while a block streams through; for more, 32 steps of k of the block
// stay in registers while the rows pass by. Blocks come from memory, so both fetch ahead: what is
// read is used at once, and the processor's own prefetching gives up among so many rows.
#define SLUICE_LANES 16
#include <immintrin.h>

#include "kernels/quantized_impl.h"

namespace sluice::kernels {
namespace {

// Bytes ahead. Reaches into the next block, which usually follows.
constexpr int64_t kFetchAhead = 8192;
constexpr int kLine = 64;

inline void FetchAhead(const std::byte* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kLine)
    _mm_prefetch(reinterpret_cast<const char*>(p + kFetchAhead + i), _MM_HINT_T0);
}

inline __m512i LoadLine(const std::byte* p) { return _mm512_load_si512(p); }

// Four numbers of a row in every lane.
inline __m512i Broadcast(const std::byte* p) {
  int32_t quad;
  memcpy(&quad, p, sizeof(quad));
  return _mm512_set1_epi32(quad);
}
inline __m512i Broadcast(const std::byte* sums, int64_t group) {
  return Broadcast(sums + 4 * group);
}

inline void StoreTile(float* c, int row, __m512i left, __m512i right) {
  _mm512_store_si512(c + row * kColumns, left);
  _mm512_store_si512(c + row * kColumns + kLanes, right);
}

template <int kRows>
void Int8FewRows(int64_t k, const std::byte* a, int64_t row_bytes, const std::byte* block,
                 float* c) {
  __m512i left[kRows];
  __m512i right[kRows];
  for (int m = 0; m < kRows; ++m) left[m] = right[m] = _mm512_setzero_si512();
  const std::byte* numbers = a + kRowHeader;
  for (int64_t i = 0; i < k; i += 4) {
    const std::byte* lines = block + i * kColumns;
    FetchAhead(lines, 2 * kLine);
    const __m512i w0 = LoadLine(lines);
    const __m512i w1 = LoadLine(lines + kLine);
    for (int m = 0; m < kRows; ++m) {
      const __m512i x = Broadcast(numbers + m * row_bytes + i);
      left[m] = _mm512_dpbusd_epi32(left[m], x, w0);
      right[m] = _mm512_dpbusd_epi32(right[m], x, w1);
    }
  }
  for (int m = 0; m < kRows; ++m) StoreTile(c, m, left[m], right[m]);
}

void Int8ManyRows(int rows, int64_t k, const std::byte* a, int64_t row_bytes,
                  const std::byte* block, float* c) {
  constexpr int kQuads = kGroup / 4;
  for (int m = 0; m < rows; ++m) StoreTile(c, m, _mm512_setzero_si512(), _mm512_setzero_si512());
  for (int64_t i = 0; i < k; i += kGroup) {
    const std::byte* lines = block + i * kColumns;
    FetchAhead(lines, 2 * kQuads * kLine);
    __m512i w0[kQuads];
    __m512i w1[kQuads];
#pragma GCC unroll 8
    for (int quad = 0; quad < kQuads; ++quad) {
      w0[quad] = LoadLine(lines + 2 * quad * kLine);
      w1[quad] = LoadLine(lines + (2 * quad + 1) * kLine);
    }
    const std::byte* numbers = a + kRowHeader + i;
    for (int m = 0; m < rows; ++m, numbers += row_bytes) {
      __m512i left[2] = {_mm512_load_si512(c + m * kColumns), _mm512_setzero_si512()};
      __m512i right[2] = {_mm512_load_si512(c + m * kColumns + kLanes), _mm512_setzero_si512()};
#pragma GCC unroll 8
      for (int quad = 0; quad < kQuads; ++quad) {
        const __m512i x = Broadcast(numbers + 4 * quad);
        left[quad % 2] = _mm512_dpbusd_epi32(left[quad % 2], x, w0[quad]);
        right[quad % 2] = _mm512_dpbusd_epi32(right[quad % 2], x, w1[quad]);
      }
      StoreTile(c, m, _mm512_add_epi32(left[0], left[1]), _mm512_add_epi32(right[0], right[1]));
    }
  }
}

void MultiplyInt8(int m, int64_t k, const std::byte* a, int64_t row_bytes, const std::byte* block,
                  float* c) {
  switch (m) {
    case 1:
      Int8FewRows<1>(k, a, row_bytes, block, c);
      break;
    case 2:
      Int8FewRows<2>(k, a, row_bytes, block, c);
      break;
    case 3:
      Int8FewRows<3>(k, a, row_bytes, block, c);
      break;
    case 4:
      Int8FewRows<4>(k, a, row_bytes, block, c);
      break;
    case 5:
      Int8FewRows<5>(k, a, row_bytes, block, c);
      break;
    case 6:
      Int8FewRows<6>(k, a, row_bytes, block, c);
      break;
    case 7:
      Int8FewRows<7>(k, a, row_bytes, block, c);
      break;
    case 8:
      Int8FewRows<8>(k, a, row_bytes, block, c);
      break;
    default:
      Int8ManyRows(m, k, a, row_bytes, block, c);
  }
  FinishInt8(m, k, a, row_bytes, block, c);
}

inline __m512 LoadScales(const std::byte* p) {
  const __m256i halves = _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// Levels 0 to 15 of the first four steps of k in a line, and of the second four.
inline __m512i LowHalves(__m512i line) { return _mm512_and_si512(line, _mm512_set1_epi8(15)); }
inline __m512i HighHalves(__m512i line) { return LowHalves(_mm512_srli_epi16(line, 4)); }

inline __m512 AddScaled(__m512i dot, __m512 scale, __m512 sum) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, sum);
}

template <int kRows>
void Int4FewRows(int64_t k, const std::byte* a, int64_t row_bytes, const std::byte* block,
                 float* c) {
  __m512 sums[kRows][2];
  for (int m = 0; m < kRows; ++m) sums[m][0] = sums[m][1] = _mm512_setzero_ps();
  const std::byte* numbers = a + kRowHeader;
  for (int64_t g = 0; g < k / kGroup; ++g) {
    const std::byte* group = block + g * kInt4GroupBytes;
    FetchAhead(group, kInt4GroupBytes);
    __m512i dots[kRows][2];
    for (int m = 0; m < kRows; ++m)
      dots[m][0] = dots[m][1] = Broadcast(numbers + m * row_bytes + k, g);
#pragma GCC unroll 4
    for (int pair = 0; pair < kGroup / 8; ++pair) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m512i line = LoadLine(group + kInt4ScaleBytes + (2 * pair + half) * kLine);
        const __m512i low = LowHalves(line);
        const __m512i high = HighHalves(line);
        for (int m = 0; m < kRows; ++m) {
          const std::byte* x = numbers + m * row_bytes + g * kGroup + 8 * pair;
          dots[m][half] = _mm512_dpbusd_epi32(dots[m][half], Broadcast(x), low);
          dots[m][half] = _mm512_dpbusd_epi32(dots[m][half], Broadcast(x + 4), high);
        }
      }
    }
    for (int half = 0; half < 2; ++half) {
      const __m512 scale = LoadScales(group + half * 2 * kLanes);
      for (int m = 0; m < kRows; ++m)
        sums[m][half] = AddScaled(dots[m][half], scale, sums[m][half]);
    }
  }
  for (int m = 0; m < kRows; ++m) {
    _mm512_store_ps(c + m * kColumns, sums[m][0]);
    _mm512_store_ps(c + m * kColumns + kLanes, sums[m][1]);
  }
}

// One group of 32 steps of k, unpacked.
struct Int4Group {
  __m512i left[8];   // columns 0 to 15
  __m512i right[8];  // columns 16 to 31
  __m512 left_scale;
  __m512 right_scale;
};

// Two chains of sums for each half: one would be so long that waiting rows fill the processor.
inline void AddRow(const Int4Group& group, const std::byte* numbers, __m512i offset, float* c) {
  __m512i left[2] = {offset, _mm512_setzero_si512()};
  __m512i right[2] = {offset, _mm512_setzero_si512()};
#pragma GCC unroll 8
  for (int quad = 0; quad < kGroup / 4; ++quad) {
    const __m512i x = Broadcast(numbers + 4 * quad);
    left[quad % 2] = _mm512_dpbusd_epi32(left[quad % 2], x, group.left[quad]);
    right[quad % 2] = _mm512_dpbusd_epi32(right[quad % 2], x, group.right[quad]);
  }
  _mm512_store_ps(
      c, AddScaled(_mm512_add_epi32(left[0], left[1]), group.left_scale, _mm512_load_ps(c)));
  _mm512_store_ps(c + kLanes, AddScaled(_mm512_add_epi32(right[0], right[1]), group.right_scale,
                                        _mm512_load_ps(c + kLanes)));
}

void Int4ManyRows(int rows, int64_t k, const std::byte* a, int64_t row_bytes,
                  const std::byte* block, float* c) {
  for (int m = 0; m < rows; ++m) StoreTile(c, m, _mm512_setzero_si512(), _mm512_setzero_si512());
  for (int64_t g = 0; g < k / kGroup; ++g) {
    const std::byte* lines = block + g * kInt4GroupBytes;
    FetchAhead(lines, kInt4GroupBytes);
    Int4Group group;
    group.left_scale = LoadScales(lines);
    group.right_scale = LoadScales(lines + 2 * kLanes);
#pragma GCC unroll 4
    for (int pair = 0; pair < kGroup / 8; ++pair) {
      const __m512i left = LoadLine(lines + kInt4ScaleBytes + 2 * pair * kLine);
      const __m512i right = LoadLine(lines + kInt4ScaleBytes + (2 * pair + 1) * kLine);
      group.left[2 * pair] = LowHalves(left);
      group.left[2 * pair + 1] = HighHalves(left);
      group.right[2 * pair] = LowHalves(right);
      group.right[2 * pair + 1] = HighHalves(right);
    }
    const std::byte* row = a + kRowHeader;
    for (int m = 0; m < rows; ++m, row += row_bytes)
      AddRow(group, row + g * kGroup, Broadcast(row + k, g), c + m * kColumns);
  }
}

void MultiplyInt4(int m, int64_t k, const std::byte* a, int64_t row_bytes, const std::byte* block,
                  float* c) {
  switch (m) {
    case 1:
      Int4FewRows<1>(k, a, row_bytes, block, c);
      break;
    case 2:
      Int4FewRows<2>(k, a, row_bytes, block, c);
      break;
    case 3:
      Int4FewRows<3>(k, a, row_bytes, block, c);
      break;
    case 4:
      Int4FewRows<4>(k, a, row_bytes, block, c);
      break;
    default:
      Int4ManyRows(m, k, a, row_bytes, block, c);
  }
  FinishInt4(m, k, a, row_bytes, block, c);
}

}  // namespace

const QuantizedOps* Avx512VnniQuantizedOps() {
  static constexpr QuantizedOps kOps = {"avx512_vnni", QuantizeRow,   MultiplyInt8, MultiplyInt4,
                                        FinishInt8,    PackInt8Group, PackInt4Group};
  return &kOps;
}

}  // namespace sluice::kernels
