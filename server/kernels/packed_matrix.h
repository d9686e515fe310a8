// PackedMatrix: the weights of one linear layer in the layout that every matmul kernel reads,
// whatever the number of rows it is multiplied with.
//
//   N output columns in blocks of 32, each block contiguous, K outermost within it:
//
//     f32   [K][32]                          b[k][n]
//     bf16  [K/2][32][2]                     b[k/2][n][k%2], the pair (k, k+1) side by side
//     int8  [K/4][32][4] s8                  four steps of k side by side
//           f32 scale [32], i32 sum [32]     of each column: w = scale q; the sum of q over K
//     int4  [K/32] groups of
//             bf16 scale [32]                w = scale (q - 8), q from 0 to 15
//             [4][32][4] bytes               byte j of pair p: q[8p + j] | q[8p + 4 + j] << 4
//           f32 sum [32]                     of each column: the sum of w over K
//
//   K is padded as PaddedK says. Columns beyond N and padded weights are zero.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "base/arena.h"
#include "base/thread_pool.h"
#include "kernels/element_types.h"
#include "kernels/quantized_ops.h"
#include "kernels/vector_ops.h"

namespace sluice::kernels {

// Columns of a block.
inline constexpr int kBlockColumns = 32;

// With more steps of k a sum of products of u8 and s8 may leave 32 bits.
inline constexpr int64_t kMaxInt8K = (int64_t{1} << 31) / (255 * 128) / kQuantGroup * kQuantGroup;

// Bytes of a block that lies in memory for K = k.
constexpr int64_t BlockBytes(WeightFormat format, int64_t k) {
  const int64_t padded_k = PaddedK(format, k);
  switch (format) {
    case WeightFormat::kF32:
      return padded_k * kBlockColumns * 4;
    case WeightFormat::kBf16:
      return padded_k * kBlockColumns * 2;
    case WeightFormat::kInt8:
      return padded_k * kBlockColumns + kBlockColumns * 8;
    case WeightFormat::kInt4:
      return padded_k * kBlockColumns / 2 + padded_k / kQuantGroup * kBlockColumns * 2 +
             kBlockColumns * 4;
  }
  return 0;
}

// A view: the weights lie in an arena. May be read from any thread.
class PackedMatrix {
 public:
  // How to pack. Everything outlives the call, the arena the matrix.
  struct Packing {
    WeightFormat format = WeightFormat::kF32;
    const VectorOps* vector = nullptr;
    const QuantizedOps* quantized = nullptr;  // for int8 and int4
    base::ThreadPool* pool = nullptr;
    base::Arena* arena = nullptr;
  };

  PackedMatrix() = default;

  // What a matrix of n columns takes of an arena.
  static int64_t ArenaBytes(WeightFormat format, int64_t n, int64_t k) {
    return base::Arena::RoundUp(NumBlocks(n) * BlockBytes(format, k));
  }
  // Columns that PackPair makes of two matrices with `rows` rows each.
  static int64_t PairColumns(int64_t rows) { return 2 * NumBlocks(rows) * kBlockColumns; }

  // Packs the rows of `sources`, one below the other, as output columns: W [N, K], so that the
  // product is x W^T. Parallel over blocks. A weight that is not finite makes its column NaN in
  // int8, and its column's results in int4.
  // REQUIRES: all sources have the same number of columns.
  static PackedMatrix Pack(const Packing& packing, absl::Span<const SourceView> sources);

  // Packs two matrices of the same shape [F, K] block by block in turn: block 2i holds columns 32i
  // and on of the first, block 2i + 1 the same columns of the second. n() is then PairColumns(F).
  static PackedMatrix PackPair(const Packing& packing, const SourceView& first,
                               const SourceView& second);

  WeightFormat format() const { return format_; }
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  int64_t num_blocks() const { return NumBlocks(n_); }
  int64_t block_bytes() const { return BlockBytes(format_, k_); }
  const std::byte* block(int64_t index) const { return data_ + index * block_bytes(); }
  // Starts fetching the beginning of a block that is about to be read: a kernel fetches ahead from
  // there on, but what it reads first would come line by line.
  void FetchStart(int64_t index) const {
    constexpr int64_t kFetchedBytes = 8192;
    const std::byte* start = block(index);
    for (int64_t i = 0; i < std::min(kFetchedBytes, block_bytes()); i += 64)
      __builtin_prefetch(start + i);
  }
  int64_t bytes() const { return num_blocks() * block_bytes(); }

 private:
  PackedMatrix(WeightFormat format, int64_t n, int64_t k, const std::byte* data)
      : format_(format), n_(n), k_(k), data_(data) {}

  static int64_t NumBlocks(int64_t n) { return (n + kBlockColumns - 1) / kBlockColumns; }

  WeightFormat format_ = WeightFormat::kF32;
  int64_t n_ = 0;
  int64_t k_ = 0;
  const std::byte* data_ = nullptr;
};

}  // namespace sluice::kernels
