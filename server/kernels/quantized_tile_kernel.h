// The TileKernel of int8 and int4 weights: QuantizedOps, and for many rows of int8 oneDNN where
// that is faster.
#pragma once

#include <memory>

#include "kernels/element_types.h"
#include "kernels/quantized_ops.h"
#include "kernels/tile_kernel.h"

namespace sluice::kernels {

// Named "<ops>_<format>", e.g. "avx512_vnni_int4". With `many_rows`, a kernel for the same format,
// tiles of more than 8 rows are that one's, and its name is added: "avx512_vnni_int8 and
// onednn_brgemm_int8".
std::unique_ptr<TileKernel> MakeQuantizedTileKernel(
    WeightFormat format, const QuantizedOps& ops, std::unique_ptr<TileKernel> many_rows = nullptr);

}  // namespace sluice::kernels
