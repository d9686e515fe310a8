// PackedMatrix: the weights of one linear layer in the layout that every matmul kernel reads,
// whatever the number of rows it is multiplied with.
//
//   N output columns in blocks of 32, each block contiguous, K outermost within it:
//
//     f32   [ceil(N/32)][K][32]            b[k][n]
//     bf16  [ceil(N/32)][ceil(K/2)][32][2] b[k/2][n][k%2], the pair (k, k+1) side by side
//
//   Columns beyond N and the odd half of the last pair are zero.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "base/thread_pool.h"
#include "kernels/aligned_buffer.h"
#include "kernels/element_types.h"

namespace sluice::kernels {

// Columns of a block.
inline constexpr int kBlockColumns = 32;

// Immutable once packed; movable; may be read from any thread.
class PackedMatrix {
 public:
  PackedMatrix() = default;

  // Packs the rows of `sources`, one below the other, as output columns: W [N, K], so that the
  // product is x W^T. Parallel over blocks. REQUIRES: all sources have the same number of columns.
  static PackedMatrix Pack(WeightFormat format, absl::Span<const SourceView> sources,
                           base::ThreadPool& pool);

  // Packs two matrices of the same shape [F, K] block by block in turn: block 2i holds columns 32i
  // and on of the first, block 2i + 1 the same columns of the second. n() is then 2 * 32 *
  // ceil(F/32).
  static PackedMatrix PackPair(WeightFormat format, const SourceView& first,
                               const SourceView& second, base::ThreadPool& pool);

  WeightFormat format() const { return format_; }
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  int64_t num_blocks() const { return (n_ + kBlockColumns - 1) / kBlockColumns; }
  const std::byte* block(int64_t index) const { return data_.data() + index * block_bytes(); }
  int64_t bytes() const { return num_blocks() * block_bytes(); }

 private:
  PackedMatrix(WeightFormat format, int64_t n, int64_t k);

  int64_t block_bytes() const {
    return PaddedK(format_, k_) * kBlockColumns * static_cast<int64_t>(BytesOf(format_));
  }

  WeightFormat format_ = WeightFormat::kF32;
  int64_t n_ = 0;
  int64_t k_ = 0;
  AlignedBuffer<std::byte> data_;
};

}  // namespace sluice::kernels
