// TileKernel: multiplies up to 32 rows of activations with one block of a PackedMatrix. What all
// matrix products are made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::kernels {

// Rows of a tile.
inline constexpr int kTileRows = 32;

// Every row of the result depends on its own row of `a` alone, bit by bit, whatever m is and
// wherever in the tile the row stands. After Prepare, Multiply may be called from any number of
// threads at once.
class TileKernel {
 public:
  virtual ~TileKernel() = default;

  // As it appears in the log and in SLUICE_KERNELS' error messages.
  virtual absl::string_view name() const = 0;

  // Makes ready for products over K = k. May be called again with the same k.
  virtual absl::Status Prepare(int64_t k) = 0;

  // Bytes that Multiply's `scratch` must have, for every k prepared so far.
  virtual size_t scratch_bytes() const = 0;

  // c = a b, with
  //   a  m rows as activation_rows.h has them, one after the other; 1 <= m <= kTileRows
  //   b  one block of a PackedMatrix, aligned to a cache line
  //   c  [m, kBlockColumns] f32, aligned to a cache line
  // `scratch` belongs to the calling thread and is aligned to a cache line.
  // REQUIRES: Prepare(k) succeeded.
  virtual void Multiply(int m, int64_t k, const void* a, const std::byte* b, float* c,
                        std::byte* scratch) const = 0;
};

}  // namespace sluice::kernels
