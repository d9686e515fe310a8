// Matrix products by oneDNN's brgemm ukernels: one JIT kernel for every K in use and every number
// of rows from 1 to 32, all made before the first product.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/element_types.h"
#include "kernels/quantized_ops.h"
#include "kernels/tile_kernel.h"

namespace sluice::kernels {

// The instruction sets that oneDNN may use: what the processor has, less what ONEDNN_MAX_CPU_ISA
// and LimitOneDnnIsa exclude.
struct OneDnnIsa {
  bool avx2 = false;
  bool avx512 = false;
  bool vnni = false;  // exact products of u8 with s8: AVX512_VNNI, AVX2_VNNI or AMX
  bool avx512_vnni = false;
  bool bf16 = false;  // products of bf16 with bf16: AVX512_BF16, AVX2_VNNI_2 or AMX
  bool amx = false;
  std::string name;  // as oneDNN names it, e.g. "AVX512_CORE_BF16"
};
OneDnnIsa GetOneDnnIsa();

enum class IsaLimit { kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16 };

// Takes everything beyond `limit` from oneDNN, for the whole process. oneDNN takes a limit only
// before it is first used or asked: FAILED_PRECONDITION if it is too late, or if ONEDNN_MAX_CPU_ISA
// is set and says otherwise.
absl::Status LimitOneDnnIsa(IsaLimit limit);

// "onednn_brgemm_f32", "onednn_brgemm_bf16" or "onednn_brgemm_int8", the last of which finishes its
// sums with `quantized`. FAILED_PRECONDITION, with the reason, on a processor that it does not run
// on. REQUIRES: not int4.
absl::StatusOr<std::unique_ptr<TileKernel>> MakeOneDnnTileKernel(
    WeightFormat format, const QuantizedOps* quantized = nullptr);

// Keeps OpenMP, which oneDNN is built with, from starting a team of threads for the calling thread.
// To be called once on each thread that multiplies; again, it costs nothing.
void InitComputeThread();

}  // namespace sluice::kernels
