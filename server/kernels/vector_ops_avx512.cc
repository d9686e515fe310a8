#define SLUICE_LANES 16
#include "kernels/vector_ops_impl.h"

namespace sluice::kernels {

const VectorOps* Avx512VectorOps() {
  static constexpr VectorOps kOps = MakeVectorOps("avx512");
  return &kOps;
}

}  // namespace sluice::kernels
