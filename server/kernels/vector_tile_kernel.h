// The TileKernel of f32 weights over VectorOps: the router's, where the others are not f32. It
// needs no preparation and, unlike oneDNN's, allocates nothing.
#pragma once

#include <memory>

#include "kernels/tile_kernel.h"
#include "kernels/vector_ops.h"

namespace sluice::kernels {

// Named "<ops>_f32", e.g. "avx512_f32". `ops` outlives it.
std::unique_ptr<TileKernel> MakeVectorTileKernel(const VectorOps& ops);

}  // namespace sluice::kernels
