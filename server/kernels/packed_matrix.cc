#include "kernels/packed_matrix.h"

#include <algorithm>
#include <array>
#include <bit>
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

template <ElementType kType>
void LoadColumn(const std::byte* row, int64_t begin, int64_t count, int column, Tile& tile) {
  for (int64_t i = 0; i < count; ++i) tile.w[i][column] = LoadElement(kType, row, begin + i);
}

// Steps [begin, begin + kStretch) of k; zeros beyond the end and in columns without a row.
void LoadTile(const BlockRows& rows, int64_t k, int64_t begin, Tile& tile) {
  const int64_t count = std::min(kStretch, k - begin);
  if (count < kStretch) std::memset(&tile, 0, sizeof(tile));
  for (int n = 0; n < kBlockColumns; ++n) {
    const BlockRow& row = rows[n];
    if (row.data == nullptr) {
      for (int64_t i = 0; i < count; ++i) tile.w[i][n] = 0;
    } else if (row.type == ElementType::kBf16) {
      LoadColumn<ElementType::kBf16>(row.data, begin, count, n, tile);
    } else if (row.type == ElementType::kF16) {
      LoadColumn<ElementType::kF16>(row.data, begin, count, n, tile);
    } else {
      LoadColumn<ElementType::kF32>(row.data, begin, count, n, tile);
    }
  }
}

// The largest magnitude among the numbers of a row, or NaN. Without its sign a number's bits order
// as the number does, with NaN above infinity.
template <typename Bits>
Bits LargestBits(const std::byte* row, int64_t k) {
  constexpr Bits kMask = static_cast<Bits>(~(Bits{1} << (8 * sizeof(Bits) - 1)));
  std::make_signed_t<Bits> largest = 0;
  for (int64_t i = 0; i < k; ++i) {
    Bits bits;
    std::memcpy(&bits, row + i * sizeof(Bits), sizeof(Bits));
    largest = std::max(largest, static_cast<std::make_signed_t<Bits>>(bits & kMask));
  }
  return static_cast<Bits>(largest);
}
float LargestMagnitude(const BlockRow& row, int64_t k) {
  if (row.data == nullptr) return 0;
  if (row.type == ElementType::kF32)
    return std::bit_cast<float>(LargestBits<uint32_t>(row.data, k));
  const uint16_t bits = LargestBits<uint16_t>(row.data, k);
  return row.type == ElementType::kBf16 ? FloatFromBf16(bits) : FloatFromF16(bits);
}

void PackF32(const BlockRows& rows, int64_t k, std::byte* block) {
  Tile tile;
  for (int64_t begin = 0; begin < k; begin += kStretch) {
    LoadTile(rows, k, begin, tile);
    std::memcpy(block + begin * sizeof(tile.w[0]), tile.w,
                std::min(kStretch, k - begin) * sizeof(tile.w[0]));
  }
}

void PackBf16(const BlockRows& rows, int64_t k, std::byte* block) {
  Tile tile;
  for (int64_t begin = 0; begin < k; begin += kStretch) {
    LoadTile(rows, k, begin, tile);
    uint32_t pairs[kStretch / 2][kBlockColumns];
    for (int i = 0; i < kStretch / 2; ++i) {
      for (int n = 0; n < kBlockColumns; ++n) {
        pairs[i][n] = Bf16FromFloat(tile.w[2 * i][n]) |
                      static_cast<uint32_t>(Bf16FromFloat(tile.w[2 * i + 1][n])) << 16;
      }
    }
    const int64_t count = (std::min(kStretch, k - begin) + 1) / 2;
    std::memcpy(block + begin / 2 * sizeof(pairs[0]), pairs, count * sizeof(pairs[0]));
  }
}

void PackInt8(const QuantizedOps& ops, const BlockRows& rows, int64_t k, std::byte* block) {
  alignas(64) float scales[kBlockColumns];
  alignas(64) float inverses[kBlockColumns];
  alignas(64) int32_t sums[kBlockColumns] = {};
  for (int n = 0; n < kBlockColumns; ++n) {
    const float largest = LargestMagnitude(rows[n], k);
    // NaN for infinity too: times it, a column would be infinite, or NaN only by chance.
    scales[n] = largest / 127 + largest * 0;
    // The inverse of anything smaller would not be finite.
    inverses[n] = scales[n] < 1e-37f ? 0 : 1 / scales[n];
  }
  Tile tile;
  for (int64_t begin = 0; begin < k; begin += kStretch) {
    LoadTile(rows, k, begin, tile);
    ops.pack_int8_group(tile.w[0], inverses, sums, block);
    block += kStretch * kBlockColumns;
  }
  std::memcpy(block, scales, sizeof(scales));
  std::memcpy(block + sizeof(scales), sums, sizeof(sums));
}

void PackInt4(const QuantizedOps& ops, const BlockRows& rows, int64_t k, std::byte* block) {
  alignas(64) float sums[kBlockColumns] = {};
  Tile tile;
  for (int64_t begin = 0; begin < k; begin += kStretch) {
    LoadTile(rows, k, begin, tile);
    ops.pack_int4_group(tile.w[0], sums, block);
    block += kStretch * kBlockColumns / 2 + 2 * kBlockColumns;
  }
  std::memcpy(block, sums, sizeof(sums));
}

void PackBlock(const PackedMatrix::Packing& packing, const BlockRows& rows, int64_t k,
               std::byte* block) {
  switch (packing.format) {
    case WeightFormat::kF32:
      return PackF32(rows, k, block);
    case WeightFormat::kBf16:
      return PackBf16(rows, k, block);
    case WeightFormat::kInt8:
      return PackInt8(*packing.quantized, rows, k, block);
    case WeightFormat::kInt4:
      return PackInt4(*packing.quantized, rows, k, block);
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
