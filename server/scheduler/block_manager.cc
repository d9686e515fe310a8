#include "scheduler/block_manager.h"

#include <numeric>

#include "base/check.h"

namespace sluice::scheduler {

BlockManager::BlockManager(int num_blocks, PrefixIndex::Hash hash)
    : index_(num_blocks, hash), num_holders_(num_blocks), free_(num_blocks), ring_(num_blocks + 1) {
  std::iota(free_.rbegin(), free_.rend(), 0);
  ring_.back() = {.previous = num_blocks, .next = num_blocks};
}

model::BlockId BlockManager::Allocate() {
  CHECK(num_available() >= 1);
  model::BlockId block;
  if (!free_.empty()) {
    block = free_.back();
    free_.pop_back();
  } else {
    block = ring_.back().next;
    Unlink(block);
    index_.Remove(block);
  }
  num_holders_[block] = 1;
  return block;
}

void BlockManager::Share(model::BlockId block) {
  CHECK(num_holders_[block] > 0 || IsCached(block));
  if (++num_holders_[block] == 1) Unlink(block);
}

void BlockManager::Release(model::BlockId block) {
  CHECK(block >= 0 && block < num_blocks() && num_holders_[block] > 0);
  if (--num_holders_[block] > 0) return;
  if (index_.Contains(block)) {
    Link(block);
  } else {
    free_.push_back(block);
  }
}

model::BlockId BlockManager::Register(model::BlockId block, const BlockContents& contents) {
  CHECK(num_holders_[block] == 1 && !index_.Contains(block));
  if (const auto found = index_.Find(contents)) {
    Share(*found);
    Release(block);
    return *found;
  }
  index_.Add(block, contents);
  return block;
}

bool BlockManager::IsCached(model::BlockId block) const {
  return num_holders_[block] == 0 && index_.Contains(block);
}

void BlockManager::Link(model::BlockId block) {
  const model::BlockId end = num_blocks();
  ring_[block] = {.previous = ring_[end].previous, .next = end};
  ring_[ring_[block].previous].next = block;
  ring_[end].previous = block;
  ++num_cached_;
}

void BlockManager::Unlink(model::BlockId block) {
  const Links links = ring_[block];
  ring_[links.previous].next = links.next;
  ring_[links.next].previous = links.previous;
  --num_cached_;
}

}  // namespace sluice::scheduler
