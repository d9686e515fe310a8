#include "kernels/compute.h"

#include <algorithm>

#include "base/check.h"

namespace sluice::kernels {
namespace {

// Rows that one work item takes of an operation that works row by row.
constexpr int64_t kRowsPerItem = 8;
// Work items for each thread, so that one that falls behind holds nobody up for long.
constexpr int64_t kItemsPerThread = 4;
// Weights of one work item: a quarter of a small second-level cache.
constexpr int64_t kItemBytes = 256 << 10;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

Compute::Compute(const KernelSet& kernels, base::ThreadPool& pool, const Limits& limits)
    : kernels_(kernels), pool_(pool), threads_(pool.num_threads()) {
  size_t kernel_bytes = kernels.f32->scratch_bytes();
  if (kernels.bf16 != nullptr) {
    kernel_bytes = std::max(kernel_bytes, kernels.bf16->scratch_bytes());
    bf16_rows_ =
        AlignedBuffer<uint16_t>(limits.max_rows * PaddedK(WeightFormat::kBf16, limits.max_k));
  }
  for (Thread& thread : threads_) {
    thread.tile = AlignedBuffer<float>(kTileRows * kBlockColumns);
    thread.pair_tile = AlignedBuffer<float>(kTileRows * kBlockColumns);
    thread.rows = AlignedBuffer<std::byte>(kTileRows * limits.max_k * sizeof(float));
    thread.kernel = AlignedBuffer<std::byte>(kernel_bytes);
  }
}

void Compute::ForRows(int64_t rows, absl::FunctionRef<void(int64_t, int)> work) {
  pool_.ParallelFor(CeilDiv(rows, kRowsPerItem), [&](int64_t item, int thread) {
    const int64_t end = std::min((item + 1) * kRowsPerItem, rows);
    for (int64_t row = item * kRowsPerItem; row < end; ++row) work(row, thread);
  });
}

Activations Compute::Convert(WeightFormat format, const float* x, int64_t rows, int64_t k) {
  if (format == WeightFormat::kF32) return {format, k, reinterpret_cast<const std::byte*>(x)};
  const int64_t stride = PaddedK(format, k);
  DCHECK(static_cast<size_t>(rows * stride) <= bf16_rows_.size());
  ForRows(rows, [&](int64_t row, int) {
    uint16_t* to = bf16_rows_.data() + row * stride;
    ops().to_bf16(x + row * k, to, k);
    if (stride > k) to[k] = 0;
  });
  return {format, k, reinterpret_cast<const std::byte*>(bf16_rows_.data())};
}

int64_t Compute::BlocksPerItem(int64_t tiles, const PackedMatrix& w) const {
  const int64_t chunks = std::clamp<int64_t>(
      CeilDiv(kItemsPerThread * pool_.num_threads(), std::max<int64_t>(tiles, 1)), 1,
      w.num_blocks());
  const int64_t block_bytes = w.bytes() / w.num_blocks();
  return std::min(CeilDiv(w.num_blocks(), chunks), std::max<int64_t>(1, kItemBytes / block_bytes));
}

void Compute::Matmul(const float* x, int64_t rows, const PackedMatrix& w, const Epilogue& epilogue,
                     float* y) {
  if (rows == 0) return;
  const TileKernel& kernel = kernels_.matmul(w.format());
  const Activations a = Convert(w.format(), x, rows, w.k());
  const int64_t tiles = CeilDiv(rows, kTileRows);
  const int64_t blocks_per_item = BlocksPerItem(tiles, w);
  const int64_t chunks = CeilDiv(w.num_blocks(), blocks_per_item);
  // Neighbouring items share their weights.
  pool_.ParallelFor(chunks * tiles, [&](int64_t item, int thread) {
    const int64_t first_block = item / tiles * blocks_per_item;
    const int64_t last_block = std::min(first_block + blocks_per_item, w.num_blocks());
    const int64_t first_row = item % tiles * kTileRows;
    const int m = static_cast<int>(std::min<int64_t>(kTileRows, rows - first_row));
    float* tile = threads_[thread].tile.data();
    for (int64_t block = first_block; block < last_block; ++block) {
      kernel.Multiply(m, w.k(), a.row(first_row), w.block(block), tile,
                      threads_[thread].kernel.data());
      const int64_t column = block * kBlockColumns;
      const int64_t columns = std::min<int64_t>(kBlockColumns, w.n() - column);
      for (int row = 0; row < m; ++row) {
        const float* from = tile + row * kBlockColumns;
        float* to = y + (first_row + row) * w.n() + column;
        for (int64_t i = 0; i < columns; ++i) {
          float value = from[i];
          if (epilogue.bias != nullptr) value += epilogue.bias[column + i];
          to[i] = epilogue.add ? to[i] + value : value;
        }
      }
    }
  });
}

}  // namespace sluice::kernels
