// The functions of attention_kernel.h over the vectors of vectors.h. Included once by each file
// that is compiled for one instruction set.
//
// Every sum is one chain of explicit multiply-adds in order of channel or position, so that it has
// the same bits in a block of one row and of six.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/attention_kernel.h"
#include "kernels/vectors.h"

namespace sluice::kernels {
namespace {

// Rows that meet a vector of keys or values while it is in a register.
constexpr int kMaxRows = 6;
// Vectors of scores, or of channels, of each of these rows: 24 sums of AVX-512's 32 registers, 12
// of AVX2's 16.
constexpr int kVecs = kLanes == 16 ? 4 : 2;
constexpr int kChunkVecs = kAttentionChunk / kLanes;
constexpr int kChunkBlocks = kAttentionChunk / kKvBlock;
constexpr float kMinusInfinity = -__builtin_inff();

#if SLUICE_LANES == 16
inline Vec NegativeFma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }
inline float MaxOfLanes(Vec v) { return _mm512_reduce_max_ps(v); }
inline Vec RoundToInteger(Vec x) { return _mm512_roundscale_ps(x, 8); }
inline Vec TimesPowerOf2(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }
#else
inline Vec NegativeFma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }
inline float MaxOfLanes(Vec v) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
inline Vec RoundToInteger(Vec x) { return _mm256_round_ps(x, 8); }
// 0 for what is no normal number any more.
inline Vec TimesPowerOf2(Vec x, Vec n) {
  const __m256i power =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  const __m256 normal = _mm256_cmp_ps(n, Set(-126.5f), _CMP_NLE_UQ);
  return _mm256_and_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(power)), normal);
}
#endif

// The lesser and the greater, of which it is known that it is an int.
inline int Least(int64_t a, int64_t b) { return static_cast<int>(a < b ? a : b); }
inline int Greatest(int64_t a, int64_t b) { return static_cast<int>(a > b ? a : b); }

// 2^x for x <= 0, to about 2 units in the last place: 2^n e^(r ln 2) with |r| <= 1/2, by the Taylor
// series to the seventh power (the next term is below 2^-27). 1 for 0, 0 for -infinity, NaN for
// NaN.
inline Vec Exp2(Vec x) {
  const Vec clamped = Max(Set(-200.0f), x);
  const Vec n = RoundToInteger(clamped);
  const Vec r = clamped - n;
  Vec e = Fma(Set(1.5252734e-5f), r, Set(1.5403530e-4f));
  e = Fma(e, r, Set(1.3333558e-3f));
  e = Fma(e, r, Set(9.6181291e-3f));
  e = Fma(e, r, Set(5.5504109e-2f));
  e = Fma(e, r, Set(2.4022651e-1f));
  e = Fma(e, r, Set(6.9314718e-1f));
  e = Fma(e, r, Set(1.0f));
  return TimesPowerOf2(e, n);
}

inline Bits LoadBits(const std::byte* p) {
  Bits bits;
  memcpy(&bits, p, sizeof(bits));
  return bits;
}

// The three ways in which a cache's numbers meet those of the queries and the softmax weights.
//
// A line is 64 bytes of the cache: kPerLine channels of 16 positions (keys), or kPerLine positions
// of 16 channels (values). It is multiplied by kFactors Factors of each row, and AddLine adds that
// to the row's sums: factor f of row r is at factors[f * FactorStride + r * RowStride], and there
// are N vectors, each with a line, or half of one, of its own.

// An f32 cache, in f32.
struct F32Cache {
  using Factor = float;
  static constexpr int kPerLine = 1;
  static constexpr int kFactors = 1;

  template <int RowStride, int FactorStride, int R, int N>
  static void AddLine(const Factor* factors, const std::byte* const (&lines)[N], int64_t offset,
                      Vec (&sums)[R][N]) {
    Vec line[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) line[n] = AsVec(LoadBits(lines[n] + offset));
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec factor = Set(factors[r * RowStride]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums[r][n] = Fma(factor, line[n], sums[r][n]);
    }
  }

  static void PutWeights(const Vec (&weights)[kChunkVecs], Factor* to) {
    for (int v = 0; v < kChunkVecs; ++v) Store(to + v * kLanes, weights[v]);
  }
  // Row r of a block of `rows`: factor i goes to to[i * rows + r].
  static void PutQuery(const float* q, int head_dim, float scale, int rows, Factor* to) {
    for (int d = 0; d < head_dim; ++d) to[d * rows] = q[d] * scale;
  }
};

// A bf16 cache, in f32.
struct Bf16Unpacked {
  using Factor = float;
  static constexpr int kPerLine = 2;
  static constexpr int kFactors = 2;

  template <int RowStride, int FactorStride, int R, int N>
  static void AddLine(const Factor* factors, const std::byte* const (&lines)[N], int64_t offset,
                      Vec (&sums)[R][N]) {
    Vec line[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) line[n] = AsVec(LoadBits(lines[n] + offset) << 16);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec factor = Set(factors[r * RowStride]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums[r][n] = Fma(factor, line[n], sums[r][n]);
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) line[n] = AsVec(LoadBits(lines[n] + offset) & 0xffff0000u);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec factor = Set(factors[FactorStride + r * RowStride]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums[r][n] = Fma(factor, line[n], sums[r][n]);
    }
  }

  static void PutWeights(const Vec (&weights)[kChunkVecs], Factor* to) {
    F32Cache::PutWeights(weights, to);
  }
  static void PutQuery(const float* q, int head_dim, float scale, int rows, Factor* to) {
    F32Cache::PutQuery(q, head_dim, scale, rows, to);
    if (head_dim % 2 != 0) to[head_dim * rows] = 0;
  }
};

#ifdef SLUICE_BF16_DOT
// A bf16 cache by products of pairs: the factors are pairs of bf16.
struct Bf16Pairs {
  using Factor = uint32_t;
  static constexpr int kPerLine = 2;
  static constexpr int kFactors = 1;

  template <int RowStride, int FactorStride, int R, int N>
  static void AddLine(const Factor* factors, const std::byte* const (&lines)[N], int64_t offset,
                      Vec (&sums)[R][N]) {
    __m512i line[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) line[n] = _mm512_loadu_si512(lines[n] + offset);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i factor = _mm512_set1_epi32(static_cast<int>(factors[r * RowStride]));
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n)
        sums[r][n] = _mm512_dpbf16_ps(sums[r][n], (__m512bh)line[n], (__m512bh)factor);
    }
  }

  static void PutWeights(const Vec (&weights)[kChunkVecs], Factor* to) {
    for (int v = 0; v < kChunkVecs; v += 2) {
      const auto pairs = _mm512_cvtne2ps_pbh(weights[v + 1], weights[v]);
      memcpy(to + v * kLanes / 2, &pairs, sizeof(pairs));
    }
  }
  static void PutQuery(const float* q, int head_dim, float scale, int rows, Factor* to) {
    for (int d = 0; d < head_dim; d += 2 * kLanes) {
      const int n = Least(head_dim - d, 2 * kLanes);
      const Vec low = LoadPart(q + d, Least(n, kLanes)) * scale;
      const Vec high = LoadPart(q + d + kLanes, Greatest(n - kLanes, 0)) * scale;
      const auto converted = _mm512_cvtne2ps_pbh(high, low);
      Factor pairs[kLanes];
      memcpy(pairs, &converted, sizeof(pairs));
      for (int i = 0; 2 * i < n; ++i) to[(d / 2 + i) * rows] = pairs[i];
    }
  }
};
#endif

// Up to four blocks of the context; those outside [first_block, last_block) are out of sight and
// stand for a block that is not.
struct Chunk {
  int64_t position = 0;  // of its first slot
  int first_block = 0;
  int last_block = 0;
  const std::byte* keys[kChunkBlocks];
  const std::byte* values[kChunkBlocks];
  // Of the chunk that comes next, to be fetched meanwhile; null if none does.
  const std::byte* next_keys[kChunkBlocks] = {};
};

// Rows that go through the registers together.
struct RowBlock {
  int64_t first = 0;
  const void* queries = nullptr;  // Factors [channels / kPerLine][kFactors][rows]
};

inline void Prefetch(const std::byte* p) { __builtin_prefetch(p, 0, 3); }

// s [R][kAttentionChunk] = queries times keys. With kPrefetch, fetches the next chunk line by line,
// as memory would stand still if all of it were asked for at once.
template <class Cache, int R, bool kPrefetch>
inline void Score(const AttentionTile& tile, const Chunk& chunk,
                  const typename Cache::Factor* queries, float* s) {
  const int lines_per_key = (tile.head_dim + Cache::kPerLine - 1) / Cache::kPerLine;
  for (int first = 0; first < kChunkVecs; first += kVecs) {
    const std::byte* lines[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      const int slot = (first + v) * kLanes;
      lines[v] = chunk.keys[slot / kKvBlock] + 4 * (slot % kKvBlock);
    }
    Vec sums[R][kVecs] = {};
    for (int64_t i = 0; i < lines_per_key; ++i) {
      Cache::template AddLine<1, R>(queries + i * Cache::kFactors * R, lines, 64 * i, sums);
      if (!kPrefetch) continue;
      for (int v = 0; v < kVecs; ++v) {
        const int slot = (first + v) * kLanes;
        if (slot % kKvBlock != 0) continue;
        Prefetch(chunk.next_keys[slot / kKvBlock] + 64 * i);
        Prefetch(chunk.next_keys[slot / kKvBlock] + tile.values_offset + 64 * i);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < kVecs; ++v)
        Store(s + r * kAttentionChunk + (first + v) * kLanes, sums[r][v]);
    }
  }
}

// Takes out of s [kAttentionChunk] what lies outside [first, last).
inline void Mask(int first, int last, float* s) {
  for (int j = 0; j < first; ++j) s[j] = kMinusInfinity;
  for (int j = last; j < kAttentionChunk; ++j) s[j] = kMinusInfinity;
}

// values [R][channels] = values times corrections, plus weights times the chunk's values, of N
// vectors of channels.
template <class Cache, int R, int N>
inline void Mix(const Chunk& chunk, int first_block, int last_block, int channels, int channel,
                const typename Cache::Factor* weights, const float* corrections, float* values) {
  constexpr int kFactorsPerBlock = kKvBlock / Cache::kPerLine * Cache::kFactors;
  Vec sums[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const Vec correction = Set(corrections[r]);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
      sums[r][n] = Load(values + r * channels + channel + n * kLanes) * correction;
  }
  for (int block = first_block; block < last_block; ++block) {
    const std::byte* lines[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) lines[n] = chunk.values[block] + 4 * (channel + n * kLanes);
    const typename Cache::Factor* factors = weights + block * kFactorsPerBlock;
    for (int64_t i = 0; i < kKvBlock / Cache::kPerLine; ++i) {
      Cache::template AddLine<kChunkBlocks * kFactorsPerBlock, 1>(factors + i * Cache::kFactors,
                                                                  lines, 4 * i * channels, sums);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) Store(values + r * channels + channel + n * kLanes, sums[r][n]);
  }
}

// One chunk of the context, for R rows.
template <class Cache, int R>
void AttendChunk(const AttentionTile& tile, const Chunk& chunk, const RowBlock& rows,
                 const AttentionPartial& partial) {
  using Factor = typename Cache::Factor;
  constexpr int kFactorsPerRow = kAttentionChunk / Cache::kPerLine * Cache::kFactors;
  static_assert(R <= kLanes);
  const int64_t first_position = tile.first_position + rows.first / tile.group;
  const int64_t last_position = tile.first_position + (rows.first + R - 1) / tile.group;
  const int64_t first_seen = first_position - tile.window + 1 - chunk.position;
  const int64_t last_seen = last_position - chunk.position;
  if (last_seen < 0 || first_seen >= kAttentionChunk) return;

  alignas(64) float s[R * kAttentionChunk];
  const Factor* queries = static_cast<const Factor*>(rows.queries);
  if (rows.first == 0 && chunk.next_keys[0] != nullptr) {
    Score<Cache, R, true>(tile, chunk, queries, s);
  } else {
    Score<Cache, R, false>(tile, chunk, queries, s);
  }

  float old_max[kLanes] = {};
  float base[kLanes] = {};
  for (int r = 0; r < R; ++r) {
    const int64_t position = tile.first_position + (rows.first + r) / tile.group - chunk.position;
    float* row = s + r * kAttentionChunk;
    const int64_t begin = position - tile.window + 1;
    if (begin > 0 || position + 1 < kAttentionChunk) {
      Mask(Least(Greatest(begin, 0), kAttentionChunk),
           Greatest(Least(position + 1, kAttentionChunk), 0), row);
    }
    Vec max = Load(row);
    for (int v = 1; v < kChunkVecs; ++v) max = Max(max, Load(row + v * kLanes));
    old_max[r] = partial.max[rows.first + r];
    const float chunk_max = MaxOfLanes(max);
    const float new_max = chunk_max > old_max[r] ? chunk_max : old_max[r];
    partial.max[rows.first + r] = new_max;
    base[r] = new_max == kMinusInfinity ? 0.0f : new_max;
  }
  float corrections[kLanes];
  Store(corrections, Exp2(Load(old_max) - Load(base)));

  alignas(64) Factor weights[R * kFactorsPerRow];
  for (int r = 0; r < R; ++r) {
    Vec p[kChunkVecs];
    for (int v = 0; v < kChunkVecs; ++v)
      p[v] = Exp2(Load(s + r * kAttentionChunk + v * kLanes) - base[r]);
    Cache::PutWeights(p, weights + r * kFactorsPerRow);
    for (int n = kChunkVecs / 2; n > 0; n /= 2) {
      for (int v = 0; v < n; ++v) p[v] += p[v + n];
    }
    float* sum = partial.sum + (rows.first + r) * kAttentionLanes;
    Store(sum, Fma(Load(sum), Set(corrections[r]), p[0]));
  }

  // Blocks that none of these rows sees weigh nothing.
  const int first_block = Greatest(chunk.first_block, first_seen < 0 ? 0 : first_seen / kKvBlock);
  const int last_block = Least(chunk.last_block, last_seen / kKvBlock + 1);
  float* values = partial.values + rows.first * tile.channels;
  int channel = 0;
  for (; channel + kVecs * kLanes <= tile.channels; channel += kVecs * kLanes) {
    Mix<Cache, R, kVecs>(chunk, first_block, last_block, tile.channels, channel, weights,
                         corrections, values);
  }
  for (; channel < tile.channels; channel += kLanes) {
    Mix<Cache, R, 1>(chunk, first_block, last_block, tile.channels, channel, weights, corrections,
                     values);
  }
}

template <class Cache>
using AttendChunkFunction = void (*)(const AttentionTile&, const Chunk&, const RowBlock&,
                                     const AttentionPartial&);

// Calls f(first row, rows) for blocks of at most kMaxRows rows, as even as can be.
template <typename F>
inline void ForRowBlocks(int64_t rows, F f) {
  const int64_t blocks = (rows + kMaxRows - 1) / kMaxRows;
  int64_t first = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t size =
        (rows - first) / (blocks - block) + ((rows - first) % (blocks - block) != 0);
    f(first, static_cast<int>(size));
    first += size;
  }
}

void Merge(int64_t rows, int channels, const AttentionPartial& from, const AttentionPartial& into) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* from_sum = from.sum + r * kAttentionLanes;
    const float* from_values = from.values + r * channels;
    float* sum = into.sum + r * kAttentionLanes;
    float* values = into.values + r * channels;
    // The greatest of scores that are all NaN is -infinity too, but their sum is NaN.
    if (from.max[r] == kMinusInfinity) {
      for (int i = 0; i < kAttentionLanes; i += kLanes)
        Store(sum + i, Load(sum + i) + Load(from_sum + i) * 0.0f);
      continue;
    }
    if (into.max[r] == kMinusInfinity) {
      into.max[r] = from.max[r];
      for (int i = 0; i < kAttentionLanes; i += kLanes)
        Store(sum + i, Load(from_sum + i) + Load(sum + i) * 0.0f);
      for (int i = 0; i < channels; i += kLanes) Store(values + i, Load(from_values + i));
      continue;
    }
    const float max = from.max[r] > into.max[r] ? from.max[r] : into.max[r];
    const Vec old_factor = Exp2(Set(into.max[r] - max));
    const Vec factor = Exp2(Set(from.max[r] - max));
    into.max[r] = max;
    for (int i = 0; i < kAttentionLanes; i += kLanes)
      Store(sum + i, Fma(Load(from_sum + i), factor, Load(sum + i) * old_factor));
    for (int i = 0; i < channels; i += kLanes)
      Store(values + i, Fma(Load(from_values + i), factor, Load(values + i) * old_factor));
  }
}

void Finish(const AttentionPartial& partial, int64_t row, int channels, int head_dim, float* out) {
  const float* lanes = partial.sum + row * kAttentionLanes;
  float sums[kAttentionLanes];
  memcpy(sums, lanes, sizeof(sums));
  for (int n = kAttentionLanes / 2; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) sums[i] += sums[i + n];
  }
  const float factor = 1.0f / sums[0];
  const float* values = partial.values + row * channels;
  for (int i = 0; i < head_dim; i += kLanes)
    StorePart(out + i, Load(values + i) * factor, Least(head_dim - i, kLanes));
}

// What a tile sees of the context.
struct Sight {
  explicit Sight(const AttentionTile& tile)
      : first_position(tile.first_position < tile.window ? 0
                                                         : tile.first_position - tile.window + 1),
        last_position(tile.first_position + tile.num_tokens - 1) {}
  bool Has(int64_t chunk_position) const {
    return chunk_position + kAttentionChunk > first_position && chunk_position <= last_position;
  }

  int64_t first_position;
  int64_t last_position;
};

// Where the keys of the chunk's blocks are. REQUIRES: sight has the chunk.
inline void FindBlocks(const AttentionTile& tile, const Sight& sight, Chunk* chunk,
                       const std::byte* (&keys)[kChunkBlocks], int64_t position) {
  const int64_t block = position / kKvBlock;
  const int first = Greatest(sight.first_position / kKvBlock - block, 0);
  const int last = Least(sight.last_position / kKvBlock + 1 - block, kChunkBlocks);
  for (int i = 0; i < kChunkBlocks; ++i) {
    const int seen = Greatest(Least(i, last - 1), first);
    keys[i] = tile.head + tile.block_table[block + seen] * tile.block_stride;
  }
  if (chunk == nullptr) return;
  chunk->first_block = first;
  chunk->last_block = last;
}

template <class Cache>
void AttendSpans(const AttentionTile& tile, int64_t first_span, int64_t last_span,
                 const AttentionScratch& scratch, const AttentionPartial& result) {
  using Factor = typename Cache::Factor;
  static constexpr AttendChunkFunction<Cache> kFunctions[kMaxRows] = {
      AttendChunk<Cache, 1>, AttendChunk<Cache, 2>, AttendChunk<Cache, 3>,
      AttendChunk<Cache, 4>, AttendChunk<Cache, 5>, AttendChunk<Cache, 6>};
  const int64_t rows = int64_t{tile.num_tokens} * tile.group;
  const int64_t factors_per_query = tile.channels / Cache::kPerLine * Cache::kFactors;
  const Sight sight(tile);
  const int64_t end = Least(last_span * kAttentionSpan, sight.last_position + 1);

  // The first chunk comes while the queries are made ready.
  int64_t first_chunk = first_span * kAttentionSpan;
  if (first_chunk < sight.first_position)
    first_chunk = sight.first_position / kAttentionChunk * kAttentionChunk;
  if (first_chunk < end) {
    const std::byte* keys[kChunkBlocks];
    FindBlocks(tile, sight, nullptr, keys, first_chunk);
    for (int64_t offset = 0; offset < 2 * tile.values_offset; offset += 64) {
      for (int i = 0; i < kChunkBlocks; ++i) Prefetch(keys[i] + offset);
    }
  }

  // Scores in units of ln 2, so that weights are powers of 2.
  const float scale = tile.scale * 1.44269504f;
  Factor* queries = reinterpret_cast<Factor*>(scratch.queries);
  ForRowBlocks(rows, [&](int64_t first, int size) {
    for (int64_t r = first; r < first + size; ++r) {
      const float* q = tile.q + r / tile.group * tile.token_stride + r % tile.group * tile.head_dim;
      Cache::PutQuery(q, tile.head_dim, scale, size,
                      queries + first * factors_per_query + (r - first));
    }
  });

  bool first_result = true;
  for (int64_t span = first_span; span < last_span; ++span) {
    const AttentionPartial& partial = first_result ? result : scratch.span;
    for (int64_t r = 0; r < rows; ++r) partial.max[r] = kMinusInfinity;
    memset(partial.sum, 0, static_cast<size_t>(rows) * kAttentionLanes * sizeof(float));
    memset(partial.values, 0, static_cast<size_t>(rows * tile.channels) * sizeof(float));
    const int64_t begin = span * kAttentionSpan;
    for (int64_t position = begin; position < begin + kAttentionSpan; position += kAttentionChunk) {
      if (!sight.Has(position)) continue;
      Chunk chunk;
      chunk.position = position;
      FindBlocks(tile, sight, &chunk, chunk.keys, position);
      for (int i = 0; i < kChunkBlocks; ++i) chunk.values[i] = chunk.keys[i] + tile.values_offset;
      if (position + kAttentionChunk < end)
        FindBlocks(tile, sight, nullptr, chunk.next_keys, position + kAttentionChunk);
      ForRowBlocks(rows, [&](int64_t first, int size) {
        kFunctions[size - 1](tile, chunk, {first, queries + first * factors_per_query}, partial);
      });
    }
    if (!first_result) Merge(rows, tile.channels, scratch.span, result);
    first_result = false;
  }
}

// `Bf16Cache`: how a bf16 cache is multiplied.
template <class Bf16Cache>
void Attend(const AttentionTile& tile, int64_t first_span, int64_t last_span,
            const AttentionScratch& scratch, const AttentionPartial& result) {
  if (tile.format == KvFormat::kF32) {
    AttendSpans<F32Cache>(tile, first_span, last_span, scratch, result);
  } else {
    AttendSpans<Bf16Cache>(tile, first_span, last_span, scratch, result);
  }
}

}  // namespace
}  // namespace sluice::kernels
