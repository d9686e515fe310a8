// QuantizedOps: everything that int8 and int4 weights need, as a table of functions with one
// implementation per instruction set. Rows as in activation_rows.h, blocks as in packed_matrix.h.
//
// A column's product with a row is
//
//   int8  row.scale * scale * (sum_k q w  -  row.zero_point * sum_k w)
//   int4  row.scale * (sum_g scale_g (sum_{k in g} q w - 8 sum_{k in g} q)
//                      - row.zero_point * sum_g scale_g sum_{k in g} (w - 8))
//
// with integer sums exact, and the groups of int4 added in f32 in the order of k. So results do
// not depend on m, and for int8 not on the implementation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::kernels {

struct QuantizedOps {
  const char* name;

  // Writes x [k] as a quantised row of padded_k numbers. scale and zero point map the range of x
  // and 0 onto 0 to 255; 0 is exact. With `group_sums` the int4 layout's sums follow. A row that
  // contains NaN or infinity becomes one whose scale is NaN.
  void (*quantize_row)(const float* x, int64_t k, int64_t padded_k, bool group_sums,
                       std::byte* row);

  // c [m, 32] f32 from m rows, `row_bytes` apart, and one block; 1 <= m <= 32; k is padded; c is
  // aligned to a cache line.
  void (*multiply_int8)(int m, int64_t k, const std::byte* a, int64_t row_bytes,
                        const std::byte* block, float* c);
  void (*multiply_int4)(int m, int64_t k, const std::byte* a, int64_t row_bytes,
                        const std::byte* block, float* c);

  // The end of multiply_int8, for sums [m, 32] that another kernel computed into c as i32.
  void (*finish_int8)(int m, int64_t k, const std::byte* a, int64_t row_bytes,
                      const std::byte* block, float* c);

  // Packs 32 steps of k of one block: w [32 k][32 columns].
  // int8: inverse_scales [32]; adds to sums [32]; writes 1024 bytes.
  void (*pack_int8_group)(const float* w, const float* inverse_scales, int32_t* sums,
                          std::byte* to);
  // int4: adds each column's sum of dequantised weights to sums [32]; writes the group's 576 bytes.
  // The scale of a column is the one with the least squared error of several, some of which clip
  // the largest weights.
  void (*pack_int4_group)(const float* w, float* sums, std::byte* to);
};

// Null if the program was not built for this instruction set.
const QuantizedOps* Avx2QuantizedOps();
const QuantizedOps* Avx512VnniQuantizedOps();

}  // namespace sluice::kernels
