#include "kernels/packed_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace sluice::kernels {
namespace {

// The source rows that become the columns of one block; null beyond the last.
struct BlockRow {
  ElementType type = ElementType::kF32;
  const std::byte* data = nullptr;
};
using BlockRows = std::array<BlockRow, kBlockColumns>;

BlockRow RowOf(const SourceView& source, int64_t row) {
  return {source.type,
          source.data + row * source.cols * static_cast<int64_t>(BytesOf(source.type))};
}

// Steps of k that are packed at a time: the group of the quantised formats.
constexpr int64_t kStretch = kQuantGroup;

// Weights of one stretch of one block, turned round.
struct alignas(64) Tile {
  float w[kStretch][kBlockColumns];
};
// The same as bf16, pairs of k side by side.
struct alignas(64) PairTile {
  uint16_t w[kStretch / 2][kBlockColumns][2];
};

// Whether steps [begin, begin + kStretch) of k are there, in bf16, for all rows.
bool IsWholeBf16(const BlockRows& rows, int64_t k, int64_t begin) {
  return k - begin >= kStretch && std::all_of(rows.begin(), rows.end(), [](const BlockRow& row) {
           return row.data != nullptr && row.type == ElementType::kBf16;
         });
}

void LoadPairs(const VectorOps& ops, const BlockRows& rows, int64_t begin, PairTile& pairs) {
  const std::byte* from[kBlockColumns];
  for (int n = 0; n < kBlockColumns; ++n) from[n] = rows[n].data + 2 * begin;
  ops.turn_bf16(from, pairs.w[0][0]);
}

// Steps [begin, begin + kStretch) of k; zeros beyond the end and in columns without a row.
void LoadTile(const VectorOps& ops, const BlockRows& rows, int64_t k, int64_t begin, Tile& tile) {
  if (IsWholeBf16(rows, k, begin)) {
    PairTile pairs;
    LoadPairs(ops, rows, begin, pairs);
    ops.widen_bf16_pairs(pairs.w[0][0], tile.w[0]);
    return;
  }
  const int64_t count = std::min(kStretch, k - begin);
  std::memset(&tile, 0, sizeof(tile));
  for (int n = 0; n < kBlockColumns; ++n) {
    if (rows[n].data == nullptr) continue;
    for (int64_t i = 0; i < count; ++i)
      tile.w[i][n] = LoadElement(rows[n].type, rows[n].data, begin + i);
  }
}

// The largest magnitude among the numbers of a row, or NaN.
float LargestMagnitude(const VectorOps& ops, const BlockRow& row, int64_t k) {
  if (row.data == nullptr) return 0;
  if (row.type == ElementType::kBf16) return FloatFromBf16(ops.largest_half(row.data, k));
  if (row.type == ElementType::kF16) return FloatFromF16(ops.largest_half(row.data, k));
  float largest = 0;
  for (int64_t i = 0; i < k; ++i) {
    const float magnitude = std::abs(LoadElement(ElementType::kF32, row.data, i));
    if (!(magnitude <= largest)) largest = magnitude;
    if (std::isnan(largest)) break;
  }
  return largest;
}

void PackF32(const VectorOps& ops, const BlockRows& rows, int64_t k, std::byte* block) {
  Tile tile;
  for (int64_t begin = 0; begin < k; begin += kStretch) {
    LoadTile(ops, rows, k, begin, tile);
    std::memcpy(block + begin * sizeof(tile.w[0]), tile.w,
                std::min(kStretch, k - begin) * sizeof(tile.w[0]));
  }
}

void PackBf16(const VectorOps& ops, const BlockRows& rows, int64_t k, std::byte* block) {
  Tile tile;
  PairTile pairs;
  for (int64_t begin = 0; begin < k; begin += kStretch) {
    if (IsWholeBf16(rows, k, begin)) {
      LoadPairs(ops, rows, begin, pairs);
    } else {
      LoadTile(ops, rows, k, begin, tile);
      for (int i = 0; i < kStretch; ++i) {
        for (int n = 0; n < kBlockColumns; ++n)
          pairs.w[i / 2][n][i % 2] = Bf16FromFloat(tile.w[i][n]);
      }
    }
    const int64_t count = (std::min(kStretch, k - begin) + 1) / 2;
    std::memcpy(block + begin / 2 * sizeof(pairs.w[0]), pairs.w, count * sizeof(pairs.w[0]));
  }
}

void PackInt8(const PackedMatrix::Packing& packing, const BlockRows& rows, int64_t k,
              std::byte* block) {
  alignas(64) float scales[kBlockColumns];
  alignas(64) float inverses[kBlockColumns];
  alignas(64) int32_t sums[kBlockColumns] = {};
  for (int n = 0; n < kBlockColumns; ++n) {
    const float largest = LargestMagnitude(*packing.vector, rows[n], k);
    // NaN for infinity too: times it, a column would be infinite, or NaN only by chance.
    scales[n] = largest / 127 + largest * 0;
    // The inverse of anything smaller would not be finite.
    inverses[n] = scales[n] < 1e-37f ? 0 : 1 / scales[n];
  }
  Tile tile;
  for (int64_t begin = 0; begin < k; begin += kStretch) {
    LoadTile(*packing.vector, rows, k, begin, tile);
    packing.quantized->pack_int8_group(tile.w[0], inverses, sums, block);
    block += kStretch * kBlockColumns;
  }
  std::memcpy(block, scales, sizeof(scales));
  std::memcpy(block + sizeof(scales), sums, sizeof(sums));
}

void PackInt4(const PackedMatrix::Packing& packing, const BlockRows& rows, int64_t k,
              std::byte* block) {
  alignas(64) float sums[kBlockColumns] = {};
  Tile tile;
  for (int64_t begin = 0; begin < k; begin += kStretch) {
    LoadTile(*packing.vector, rows, k, begin, tile);
    packing.quantized->pack_int4_group(tile.w[0], sums, block);
    block += kStretch * kBlockColumns / 2 + 2 * kBlockColumns;
  }
  std::memcpy(block, sums, sizeof(sums));
}

void PackBlock(const PackedMatrix::Packing& packing, const BlockRows& rows, int64_t k,
               std::byte* block) {
  switch (packing.format) {
    case WeightFormat::kF32:
      return PackF32(*packing.vector, rows, k, block);
    case WeightFormat::kBf16:
      return PackBf16(*packing.vector, rows, k, block);
    case WeightFormat::kInt8:
      return PackInt8(packing, rows, k, block);
    case WeightFormat::kInt4:
      return PackInt4(packing, rows, k, block);
  }
}

}  // namespace

PackedMatrix PackedMatrix::Pack(const Packing& packing, absl::Span<const SourceView> sources) {
  CHECK(!sources.empty());
  const int64_t k = sources[0].cols;
  int64_t n = 0;
  for (const SourceView& source : sources) {
    CHECK(source.cols == k);
    n += source.rows;
  }
  std::byte* data = packing.arena->Take(ArenaBytes(packing.format, n, k));
  packing.pool->ParallelFor(NumBlocks(n), [&](int64_t b, int) {
    BlockRows rows;
    int64_t first = 0;  // of the current source, among all rows
    for (const SourceView& source : sources) {
      const int64_t begin = std::max(first, b * kBlockColumns);
      const int64_t end = std::min(first + source.rows, (b + 1) * kBlockColumns);
      for (int64_t row = begin; row < end; ++row)
        rows[row - b * kBlockColumns] = RowOf(source, row - first);
      first += source.rows;
    }
    PackBlock(packing, rows, k, data + b * BlockBytes(packing.format, k));
  });
  return PackedMatrix(packing.format, n, k, data);
}

PackedMatrix PackedMatrix::PackPair(const Packing& packing, const SourceView& first,
                                    const SourceView& second) {
  CHECK(first.rows == second.rows && first.cols == second.cols);
  const int64_t k = first.cols;
  const int64_t n = PairColumns(first.rows);
  std::byte* data = packing.arena->Take(ArenaBytes(packing.format, n, k));
  packing.pool->ParallelFor(NumBlocks(n), [&](int64_t b, int) {
    const SourceView& source = b % 2 == 0 ? first : second;
    const int64_t begin = b / 2 * kBlockColumns;
    BlockRows rows;
    for (int64_t row = begin; row < std::min(begin + kBlockColumns, source.rows); ++row)
      rows[row - begin] = RowOf(source, row);
    PackBlock(packing, rows, k, data + b * BlockBytes(packing.format, k));
  });
  return PackedMatrix(packing.format, n, k, data);
}

}  // namespace sluice::kernels
