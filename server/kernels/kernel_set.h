// KernelSet: the implementation of every kernel that this process runs, chosen from ordered lists,
// best first, in which each entry may decline with a reason.
//
//   matmul f32    onednn_brgemm_f32 (AVX2), reference; for the router beside weights in another
//                 format avx512_f32, avx2_f32, reference
//   matmul bf16   onednn_brgemm_bf16 (AVX512_BF16, AVX2_VNNI_2 or AMX), reference
//   matmul int8   avx512_vnni_int8, avx2_int8, reference; with AMX, or AVX2_VNNI alone, tiles of
//                 more than 8 rows go to onednn_brgemm_int8
//   matmul int4   avx512_vnni_int4, avx2_int4, reference
//   quantized     avx512_vnni, avx2, reference: rows, packing and products of int8 and int4
//   vector        avx512, avx2, reference
//   attention     avx512_bf16, avx512, avx2, reference
//
// The environment variable SLUICE_KERNELS forces a tier; one that the processor (or
// ONEDNN_MAX_CPU_ISA) does not allow is an error, never another tier:
//
//   reference     plain loops for everything
//   avx2          nothing beyond AVX2, so no bf16
//   avx512        AVX-512 without VNNI and without its bf16 instructions, so no bf16
//   avx512_vnni   AVX-512 with VNNI, no bf16
//   avx512_bf16   AVX-512 with VNNI and AVX512_BF16, no AMX
//   amx           everything; needs AMX
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/attention_kernel.h"
#include "kernels/element_types.h"
#include "kernels/quantized_ops.h"
#include "kernels/tile_kernel.h"
#include "kernels/vector_ops.h"

namespace sluice::kernels {

struct KernelSet {
  // What the weights are held in.
  WeightFormat format = WeightFormat::kF32;
  // Always there: the router multiplies in f32 whatever the weights are. With other weights it
  // is for the router alone.
  std::unique_ptr<TileKernel> f32;
  // For `format`; null if that is f32.
  std::unique_ptr<TileKernel> weights;
  const VectorOps* vector = nullptr;
  const QuantizedOps* quantized = nullptr;
  const AttentionKernel* attention = nullptr;
  // One line for each kernel chosen and each one declined, e.g. "matmul bf16: onednn_brgemm_bf16".
  std::vector<std::string> report;
  // The widest instruction set that the kernels may use, e.g. "AVX512_CORE_BF16".
  std::string isa;

  // REQUIRES: wanted is f32 or `format`.
  TileKernel& matmul(WeightFormat wanted) const {
    return wanted == WeightFormat::kF32 ? *f32 : *weights;
  }
};

// Chooses for products in `format`, forced to `tier` (SLUICE_KERNELS' value; empty: nothing is
// forced). INVALID_ARGUMENT for an unknown tier; FAILED_PRECONDITION if this processor cannot run
// the tier, or cannot multiply in `format` except by the reference, which must be forced.
// oneDNN keeps a tier's limit for the rest of the process.
absl::StatusOr<KernelSet> SelectKernels(WeightFormat format, absl::string_view tier);

// SelectKernels with the tier from the environment.
absl::StatusOr<KernelSet> SelectKernels(WeightFormat format);

// bf16 where there are kernels for it, otherwise f32, and then the log says why.
WeightFormat BestFormat();

}  // namespace sluice::kernels
