#include "kernels/packed_matrix.h"

#include <algorithm>

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

// Rows are read a stretch at a time, so that the 32 strided writes stay in the first-level cache.
constexpr int64_t kStretch = 64;

void PackBlock(WeightFormat format, const BlockRows& rows, int64_t k, std::byte* block) {
  for (int64_t begin = 0; begin < k; begin += kStretch) {
    const int64_t end = std::min(begin + kStretch, k);
    for (int n = 0; n < kBlockColumns; ++n) {
      const BlockRow& row = rows[n];
      if (row.data == nullptr) continue;
      if (format == WeightFormat::kF32) {
        float* to = reinterpret_cast<float*>(block);
        for (int64_t i = begin; i < end; ++i)
          to[i * kBlockColumns + n] = LoadElement(row.type, row.data, i);
      } else {
        uint16_t* to = reinterpret_cast<uint16_t*>(block);
        for (int64_t i = begin; i < end; ++i) {
          to[(i / 2 * kBlockColumns + n) * 2 + i % 2] =
              Bf16FromFloat(LoadElement(row.type, row.data, i));
        }
      }
    }
  }
}

}  // namespace

PackedMatrix::PackedMatrix(WeightFormat format, int64_t n, int64_t k)
    : format_(format), n_(n), k_(k), data_(num_blocks() * block_bytes()) {}

PackedMatrix PackedMatrix::Pack(WeightFormat format, absl::Span<const SourceView> sources,
                                base::ThreadPool& pool) {
  CHECK(!sources.empty());
  int64_t n = 0;
  for (const SourceView& source : sources) {
    CHECK(source.cols == sources[0].cols);
    n += source.rows;
  }
  PackedMatrix packed(format, n, sources[0].cols);
  pool.ParallelFor(packed.num_blocks(), [&](int64_t b, int) {
    BlockRows rows;
    int64_t first = 0;  // of the current source, among all rows
    for (const SourceView& source : sources) {
      const int64_t begin = std::max(first, b * kBlockColumns);
      const int64_t end = std::min(first + source.rows, (b + 1) * kBlockColumns);
      for (int64_t row = begin; row < end; ++row)
        rows[row - b * kBlockColumns] = RowOf(source, row - first);
      first += source.rows;
    }
    PackBlock(format, rows, packed.k_, packed.data_.data() + b * packed.block_bytes());
  });
  return packed;
}

PackedMatrix PackedMatrix::PackPair(WeightFormat format, const SourceView& first,
                                    const SourceView& second, base::ThreadPool& pool) {
  CHECK(first.rows == second.rows && first.cols == second.cols);
  const int64_t blocks = 2 * ((first.rows + kBlockColumns - 1) / kBlockColumns);
  PackedMatrix packed(format, blocks * kBlockColumns, first.cols);
  pool.ParallelFor(blocks, [&](int64_t b, int) {
    const SourceView& source = b % 2 == 0 ? first : second;
    const int64_t begin = b / 2 * kBlockColumns;
    BlockRows rows;
    for (int64_t row = begin; row < std::min(begin + kBlockColumns, source.rows); ++row)
      rows[row - begin] = RowOf(source, row);
    PackBlock(format, rows, packed.k_, packed.data_.data() + b * packed.block_bytes());
  });
  return packed;
}

}  // namespace sluice::kernels
