#define SLUICE_LANES 16
#define SLUICE_BF16_DOT
#include "kernels/attention_impl.h"

namespace sluice::kernels {

const AttentionKernel* Avx512Bf16Attention() {
  static constexpr AttentionKernel kKernel = {"avx512_bf16", Attend<Bf16Pairs>, Merge, Finish};
  return &kKernel;
}

}  // namespace sluice::kernels
