// Compute: the chosen kernels, the threads that run them and their scratch memory; and the matrix
// product over whole matrices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/thread_pool.h"
#include "kernels/activation_rows.h"
#include "kernels/aligned_buffer.h"
#include "kernels/kernel_set.h"
#include "kernels/packed_matrix.h"

namespace sluice::kernels {

// Borrowed: rows of numbers as a product takes them (activation_rows.h).
struct Activations {
  WeightFormat format = WeightFormat::kF32;
  int64_t k = 0;
  const std::byte* data = nullptr;

  int64_t row_bytes() const { return RowBytes(format, k); }
  const std::byte* row(int64_t index) const { return data + index * row_bytes(); }
};

// Used by one thread, the one that may call pool.ParallelFor. Allocates nothing after
// construction, except where oneDNN multiplies (f32 and bf16 weights, and int8 on some processors:
// kernel_set.h), which makes a short list in each call.
class Compute {
 public:
  struct Limits {
    int64_t max_rows = 0;  // of one product
    int64_t max_k = 0;
  };

  // Scratch memory of one thread of the pool.
  struct Thread {
    AlignedBuffer<float> tile;       // [kTileRows, kBlockColumns]
    AlignedBuffer<float> pair_tile;  // the same, for the second of two products
    AlignedBuffer<std::byte> rows;   // [kTileRows] gathered or converted rows of up to max_k
    AlignedBuffer<std::byte> kernel;
  };

  // REQUIRES: every K is Prepared in `kernels`, which, like `pool`, outlives this.
  Compute(const KernelSet& kernels, base::ThreadPool& pool, const Limits& limits);

  const KernelSet& kernels() const { return kernels_; }
  const VectorOps& ops() const { return *kernels_.vector; }
  const AttentionKernel& attention() const { return *kernels_.attention; }
  base::ThreadPool& pool() { return pool_; }
  Thread& thread(int index) { return threads_[index]; }

  // Calls work(row, thread) for every row, in parallel; for so few that a fork would not pay, on
  // the calling thread.
  void ForRows(int64_t rows, absl::FunctionRef<void(int64_t row, int thread)> work);

  // Writes x [k] to `row` as `format` has it.
  void ConvertRow(WeightFormat format, const float* x, int64_t k, std::byte* row) const;

  // x [rows, k] as `format` has it: x itself for f32, otherwise a copy that is valid until the next
  // call.
  Activations Convert(WeightFormat format, const float* x, int64_t rows, int64_t k);

  struct Epilogue {
    const float* bias = nullptr;  // [N], or null
    bool add = false;             // to what is in y, instead of replacing it
  };
  // y [rows, N] = x [rows, K] w^T (+ bias) (+ y)
  void Matmul(const float* x, int64_t rows, const PackedMatrix& w, const Epilogue& epilogue,
              float* y);

 private:
  // One product's tile [m, kBlockColumns] into the rows of y [m, n], from `column` on.
  void WriteTile(const float* tile, int m, int64_t n, int64_t column, const Epilogue& epilogue,
                 float* y) const;

  const KernelSet& kernels_;
  base::ThreadPool& pool_;
  std::vector<Thread> threads_;
  AlignedBuffer<std::byte> converted_;  // [max_rows] rows of up to max_k
};

}  // namespace sluice::kernels
