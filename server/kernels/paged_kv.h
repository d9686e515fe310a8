// PagedKvView: where the keys and values of one layer lie in a paged cache.
//
//   A block holds kKvBlock consecutive positions of one sequence. For each key/value head it has
//
//     keys    [head_dim][kKvBlock]   position runs fastest: 16 scores are one vector
//     values  [kKvBlock][head_dim]   channel runs fastest: an output row is a sum of rows
//
//   one behind the other, as f32.
#pragma once

#include <cstdint>

namespace sluice::kernels {

// Positions of a block.
inline constexpr int kKvBlock = 16;

// Borrowed.
struct PagedKvView {
  float* data = nullptr;     // block 0, head 0 of this layer
  int64_t block_stride = 0;  // floats from one block to the next
  int head_dim = 0;

  float* keys(int32_t block, int head) const {
    return data + block * block_stride + int64_t{2} * head * head_dim * kKvBlock;
  }
  float* values(int32_t block, int head) const {
    return keys(block, head) + int64_t{head_dim} * kKvBlock;
  }
};

}  // namespace sluice::kernels
