// KvCache: the keys and values of all sequences, in blocks of kKvBlockTokens positions that are
// handed out one by one.
//
//   [block][layer][kv head] { keys f32 [head_dim][16], values f32 [16][head_dim] }
//
// All layers of a block lie together, so the memory that is touched grows with the blocks in use.
#pragma once

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "base/mapped_memory.h"
#include "kernels/paged_kv.h"
#include "model/model_runner.h"

namespace sluice::model {

static_assert(kKvBlockTokens == kernels::kKvBlock);

// Movable. Different blocks may be written from different threads.
class KvCache {
 public:
  struct Shape {
    int num_layers = 0;
    int num_kv_heads = 0;
    int head_dim = 0;

    // Bytes of one block, all layers.
    int64_t block_bytes() const {
      return int64_t{2} * num_layers * num_kv_heads * head_dim * kKvBlockTokens * sizeof(float);
    }
  };

  // As many blocks as `bytes` hold, reserved now and given memory when first written.
  // INVALID_ARGUMENT if that is not a single one, RESOURCE_EXHAUSTED if the address space is not to
  // be had.
  static absl::StatusOr<KvCache> Create(const Shape& shape, int64_t bytes);

  int num_blocks() const { return num_blocks_; }

  kernels::PagedKvView layer(int layer) {
    return {.data = reinterpret_cast<float*>(memory_.data()) +
                    layer * int64_t{2} * shape_.num_kv_heads * shape_.head_dim * kKvBlockTokens,
            .block_stride = shape_.block_bytes() / static_cast<int64_t>(sizeof(float)),
            .head_dim = shape_.head_dim};
  }

 private:
  KvCache(const Shape& shape, int num_blocks, base::MappedMemory memory)
      : shape_(shape), num_blocks_(num_blocks), memory_(std::move(memory)) {}

  Shape shape_;
  int num_blocks_;
  base::MappedMemory memory_;
};

}  // namespace sluice::model
