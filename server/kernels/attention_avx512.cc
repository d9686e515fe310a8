#define SLUICE_LANES 16
#include "kernels/attention_impl.h"

namespace sluice::kernels {

const AttentionKernel* Avx512Attention() {
  static constexpr AttentionKernel kKernel = {"avx512", Attend<Bf16Unpacked>, Merge, Finish};
  return &kKernel;
}

}  // namespace sluice::kernels
