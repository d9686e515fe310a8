// KvCache: the keys and values of all sequences, in blocks of kKvBlockTokens positions that are
// handed out one by one.
//
//   [block][layer][kv head] { keys, values }, as kernels/paged_kv.h draws them
//
// All layers of a block lie together, so the memory that is touched grows with the blocks in use.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/status/statusor.h"
#include "base/mapped_memory.h"
#include "kernels/element_types.h"
#include "kernels/paged_kv.h"
#include "model/config.h"
#include "model/model_runner.h"

namespace sluice::model {

static_assert(kKvBlockTokens == kernels::kKvBlock);

// f32 beside f32 weights, which stand for exactness; otherwise bf16.
constexpr kernels::KvFormat DefaultKvFormat(kernels::WeightFormat weights) {
  return weights == kernels::WeightFormat::kF32 ? kernels::KvFormat::kF32
                                                : kernels::KvFormat::kBf16;
}

// Movable. Different positions and different heads, of one block too, may be written from different
// threads.
class KvCache {
 public:
  struct Shape {
    int num_layers = 0;
    int num_kv_heads = 0;
    int head_dim = 0;
    kernels::KvFormat format = kernels::KvFormat::kBf16;

    static Shape Of(const ModelConfig& config, kernels::KvFormat format) {
      return {.num_layers = config.num_layers(),
              .num_kv_heads = config.attention.num_kv_heads,
              .head_dim = config.attention.head_dim,
              .format = format};
    }

    // Bytes of one block, of one layer and of all of them.
    int64_t layer_bytes() const { return 2 * num_kv_heads * kernels::KvBytes(format, head_dim); }
    int64_t block_bytes() const { return num_layers * layer_bytes(); }
  };

  // As many blocks as `bytes` hold, reserved now and given memory when first written.
  // INVALID_ARGUMENT if that is not a single one, RESOURCE_EXHAUSTED if the address space is not to
  // be had.
  static absl::StatusOr<KvCache> Create(const Shape& shape, int64_t bytes);

  int num_blocks() const { return num_blocks_; }
  const Shape& shape() const { return shape_; }

  kernels::PagedKvView layer(int layer) {
    return {.data = memory_.data() + layer * shape_.layer_bytes(),
            .block_stride = shape_.block_bytes(),
            .head_dim = shape_.head_dim,
            .format = shape_.format};
  }

  // Copies one block, of all layers.
  void CopyBlock(BlockId from, BlockId to) {
    std::memcpy(memory_.data() + to * shape_.block_bytes(),
                memory_.data() + from * shape_.block_bytes(), shape_.block_bytes());
  }

 private:
  KvCache(const Shape& shape, int num_blocks, base::MappedMemory memory)
      : shape_(shape), num_blocks_(num_blocks), memory_(std::move(memory)) {}

  Shape shape_;
  int num_blocks_;
  base::MappedMemory memory_;
};

}  // namespace sluice::model
