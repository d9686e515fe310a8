// BlockManager: which blocks of the KV cache are free. It hands out indices; the memory is the
// model's.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "model/model_runner.h"

namespace sluice::scheduler {

// For the engine thread alone. Every block is free or has exactly one holder.
class BlockManager {
 public:
  explicit BlockManager(int num_blocks);

  int num_blocks() const { return static_cast<int>(is_free_.size()); }
  int num_free() const { return static_cast<int>(free_.size()); }

  bool CanAllocate(int num_blocks) const { return num_blocks <= num_free(); }

  // The blocks that were used last come first: they are likeliest to be in the processor's cache.
  // REQUIRES: CanAllocate(num_blocks).
  std::vector<model::BlockId> Allocate(int num_blocks);

  // REQUIRES: the blocks came from Allocate and have not been freed since.
  void Free(absl::Span<const model::BlockId> blocks);

 private:
  std::vector<model::BlockId> free_;  // a stack
  std::vector<bool> is_free_;         // by block
};

}  // namespace sluice::scheduler
