// How one row of K activations lies in memory, for each format of weights that it may meet.
//
//   f32   f32 [K]
//   bf16  bf16 [PaddedK]
//   int8  { f32 scale, i32 zero_point, unused to 64 bytes }  u8 [PaddedK]
//   int4  the same, then  i32 [PaddedK / 32]: -8 times the sum of each group
//
// A quantised number q stands for scale * (q - zero_point). Padding holds zeros (bf16) or whatever
// meets weights that are zero (u8). Rows follow one another at a distance of RowBytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/element_types.h"

namespace sluice::kernels {

struct QuantizedRowHeader {
  float scale;
  int32_t zero_point;  // 0 to 255
};

// From a quantised row's start to its numbers.
inline constexpr int64_t kQuantizedRowHeaderBytes = 64;

// Rows that are made for a product are an odd number of cache lines apart, so that the same place
// in 32 rows does not fall on the same few sets of the first-level cache. f32 rows are used where
// they are.
constexpr int64_t RowBytes(WeightFormat format, int64_t k) {
  const int64_t padded_k = PaddedK(format, k);
  if (format == WeightFormat::kF32) return 4 * padded_k;
  const int64_t bytes = format == WeightFormat::kBf16
                            ? 2 * padded_k
                            : kQuantizedRowHeaderBytes + padded_k +
                                  (format == WeightFormat::kInt4 ? padded_k / kQuantGroup * 4 : 0);
  return ((bytes + 63) / 64 | 1) * 64;
}

}  // namespace sluice::kernels
