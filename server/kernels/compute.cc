#include "kernels/compute.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/integers.h"

namespace sluice::kernels {
namespace {

using base::CeilDiv;

// Rows that one work item takes of an operation that works row by row.
constexpr int64_t kRowsPerItem = 8;
// Work items for each thread, so that nobody waits long for the last one.
constexpr int64_t kItemsPerThread = 16;
// Weights of one work item at most: they stay in the second-level cache while tiles of rows pass.
constexpr int64_t kItemBytes = 256 << 10;

}  // namespace

Compute::Compute(const KernelSet& kernels, base::ThreadPool& pool, const Limits& limits)
    : kernels_(kernels), pool_(pool), threads_(pool.num_threads()) {
  size_t kernel_bytes = kernels.f32->scratch_bytes();
  if (kernels.weights != nullptr) {
    kernel_bytes = std::max(kernel_bytes, kernels.weights->scratch_bytes());
    converted_ = AlignedBuffer<std::byte>(limits.max_rows * RowBytes(kernels.format, limits.max_k));
  }
  const int64_t row_bytes =
      std::max(RowBytes(WeightFormat::kF32, limits.max_k), RowBytes(kernels.format, limits.max_k));
  for (Thread& thread : threads_) {
    thread.tile = AlignedBuffer<float>(kTileRows * kBlockColumns);
    thread.pair_tile = AlignedBuffer<float>(kTileRows * kBlockColumns);
    thread.rows = AlignedBuffer<std::byte>(kTileRows * row_bytes);
    thread.kernel = AlignedBuffer<std::byte>(kernel_bytes);
  }
}

void Compute::ForRows(int64_t rows, absl::FunctionRef<void(int64_t, int)> work) {
  pool_.ParallelFor(CeilDiv(rows, kRowsPerItem), [&](int64_t item, int thread) {
    const int64_t end = std::min((item + 1) * kRowsPerItem, rows);
    for (int64_t row = item * kRowsPerItem; row < end; ++row) work(row, thread);
  });
}

void Compute::ConvertRow(WeightFormat format, const float* x, int64_t k, std::byte* row) const {
  const int64_t padded_k = PaddedK(format, k);
  if (format == WeightFormat::kF32) {
    std::memcpy(row, x, k * sizeof(float));
  } else if (format == WeightFormat::kBf16) {
    uint16_t* to = reinterpret_cast<uint16_t*>(row);
    ops().to_bf16(x, to, k);
    if (padded_k > k) to[k] = 0;
  } else {
    kernels_.quantized->quantize_row(x, k, padded_k, format == WeightFormat::kInt4, row);
  }
}

Activations Compute::Convert(WeightFormat format, const float* x, int64_t rows, int64_t k) {
  if (format == WeightFormat::kF32) return {format, k, reinterpret_cast<const std::byte*>(x)};
  const int64_t row_bytes = RowBytes(format, k);
  DCHECK(static_cast<size_t>(rows * row_bytes) <= converted_.size());
  ForRows(rows, [&](int64_t row, int) {
    ConvertRow(format, x + row * k, k, converted_.data() + row * row_bytes);
  });
  return {format, k, converted_.data()};
}

void Compute::Matmul(const float* x, int64_t rows, const PackedMatrix& w, const Epilogue& epilogue,
                     float* y) {
  if (rows == 0) return;
  const TileKernel& kernel = kernels_.matmul(w.format());
  const Activations a = Convert(w.format(), x, rows, w.k());
  const int64_t wanted_items = kItemsPerThread * pool_.num_threads();
  const int64_t blocks_per_item = std::clamp<int64_t>(
      w.num_blocks() / wanted_items, 1, std::max<int64_t>(1, kItemBytes / w.block_bytes()));
  const int64_t chunks = CeilDiv(w.num_blocks(), blocks_per_item);
  // A narrow matrix gets more items by dividing the rows too.
  const int64_t tiles = CeilDiv(rows, kTileRows);
  const int64_t tiles_per_item = CeilDiv(tiles, CeilDiv(wanted_items, chunks));
  const int64_t row_parts = CeilDiv(tiles, tiles_per_item);
  pool_.ParallelForStretches(chunks * row_parts, [&](int64_t item, int thread) {
    const int64_t first_block = item / row_parts * blocks_per_item;
    const int64_t last_block = std::min(first_block + blocks_per_item, w.num_blocks());
    w.FetchStart(first_block);
    const int64_t first_tile = item % row_parts * tiles_per_item;
    const int64_t last_tile = std::min(first_tile + tiles_per_item, tiles);
    for (int64_t tile = first_tile; tile < last_tile; ++tile) {
      const int64_t row = tile * kTileRows;
      const int m = static_cast<int>(std::min<int64_t>(kTileRows, rows - row));
      for (int64_t block = first_block; block < last_block; ++block) {
        kernel.Multiply(m, w.k(), a.row(row), w.block(block), threads_[thread].tile.data(),
                        threads_[thread].kernel.data());
        WriteTile(threads_[thread].tile.data(), m, w.n(), block * kBlockColumns, epilogue,
                  y + row * w.n());
      }
    }
  });
}

void Compute::WriteTile(const float* tile, int m, int64_t n, int64_t column,
                        const Epilogue& epilogue, float* y) const {
  const int64_t columns = std::min<int64_t>(kBlockColumns, n - column);
  for (int row = 0; row < m; ++row) {
    float* to = y + row * n + column;
    if (epilogue.add) {
      ops().add_scaled(1, tile + row * kBlockColumns, to, columns);
    } else {
      std::copy_n(tile + row * kBlockColumns, columns, to);
    }
    if (epilogue.bias != nullptr) ops().add_scaled(1, epilogue.bias + column, to, columns);
  }
}

}  // namespace sluice::kernels
