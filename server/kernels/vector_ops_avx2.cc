#define SLUICE_LANES 8
#include "kernels/vector_ops_impl.h"

namespace sluice::kernels {

const VectorOps* Avx2VectorOps() {
  static constexpr VectorOps kOps = MakeVectorOps("avx2");
  return &kOps;
}

}  // namespace sluice::kernels
