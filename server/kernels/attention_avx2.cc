#define SLUICE_LANES 8
#include "kernels/attention_impl.h"

namespace sluice::kernels {

const AttentionKernel* Avx2Attention() {
  static constexpr AttentionKernel kKernel = {"avx2", Attend<Bf16Unpacked>, Merge, Finish};
  return &kKernel;
}

}  // namespace sluice::kernels
