#include "scheduler/block_manager.h"

#include <numeric>

#include "base/check.h"

namespace sluice::scheduler {

BlockManager::BlockManager(int num_blocks) : free_(num_blocks), is_free_(num_blocks, true) {
  std::iota(free_.rbegin(), free_.rend(), 0);
}

std::vector<model::BlockId> BlockManager::Allocate(int num_blocks) {
  CHECK(CanAllocate(num_blocks));
  std::vector<model::BlockId> blocks(free_.rbegin(), free_.rbegin() + num_blocks);
  free_.resize(free_.size() - num_blocks);
  for (const model::BlockId block : blocks) is_free_[block] = false;
  return blocks;
}

void BlockManager::Free(absl::Span<const model::BlockId> blocks) {
  for (const model::BlockId block : blocks) {
    CHECK(block >= 0 && block < num_blocks() && !is_free_[block]);
    is_free_[block] = true;
  }
  free_.insert(free_.end(), blocks.rbegin(), blocks.rend());
}

}  // namespace sluice::scheduler
