// Plain loops: the truth that every faster kernel is tested against. They add in double and round
// once, and know no tiles, no packing tricks and no threads.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "kernels/element_types.h"
#include "kernels/paged_kv.h"
#include "kernels/quantized_ops.h"
#include "kernels/tile_kernel.h"
#include "kernels/vector_ops.h"

namespace sluice::kernels::reference {

// y [m, N] = x [m, K] w [N, K]^T, all row-major.
void Matmul(absl::Span<const float> x, const SourceView& w, absl::Span<float> y);

// The same product from packed weights, as a TileKernel named "reference".
std::unique_ptr<TileKernel> MakeTileKernel(WeightFormat format);

// The table of vector_ops.h.
const VectorOps& ReferenceVectorOps();

// The table of quantized_ops.h. Its products are those of the dequantised numbers; its int4 scales
// come from a finer search.
const QuantizedOps& ReferenceQuantizedOps();

// In place. A NaN anywhere makes all of them NaN.
void Softmax(absl::Span<float> x);

// The k largest of `probabilities`, largest first, ties to the lower id.
std::vector<int32_t> TopK(absl::Span<const float> probabilities, int k);

// One query head at `position` attends to positions (position - window, position] of one key/value
// head; `window` is at least 1. q and the result have kv.head_dim elements.
std::vector<float> Attend(const PagedKvView& kv, absl::Span<const int32_t> block_table, int kv_head,
                          absl::Span<const float> q, int64_t position, int64_t window, float scale);

}  // namespace sluice::kernels::reference
