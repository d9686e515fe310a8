#include "scheduler/block_table.h"

#include <algorithm>

#include "base/check.h"

namespace sluice::scheduler {
namespace {

constexpr size_t kBlockTokens = model::kKvBlockTokens;

// Calls visit(block) for each cached block with the first of `tokens`.
template <typename Visit>
void ForEachCached(const BlockManager& manager, absl::string_view salt,
                   absl::Span<const TokenId> tokens, const Visit& visit) {
  PrefixId prefix = kNoPrefix;
  for (size_t first = 0; first + kBlockTokens <= tokens.size(); first += kBlockTokens) {
    const auto block = manager.Find(
        {.prefix = prefix, .salt = salt, .tokens = tokens.subspan(first, kBlockTokens)});
    if (!block.has_value()) return;
    prefix = manager.prefix_id(*block);
    visit(*block);
  }
}

}  // namespace

CachedPrefix FindCachedPrefix(const BlockManager& manager, absl::string_view salt,
                              absl::Span<const TokenId> tokens) {
  CachedPrefix found;
  ForEachCached(manager, salt, tokens, [&](model::BlockId block) {
    ++found.num_blocks;
    if (manager.num_holders(block) == 0) ++found.num_idle;
  });
  return found;
}

void BlockTable::TakeCachedPrefix(BlockManager& manager, absl::string_view salt,
                                  absl::Span<const TokenId> tokens) {
  CHECK(blocks_.empty());
  ForEachCached(manager, salt, tokens, [&](model::BlockId block) {
    manager.Share(block);
    blocks_.push_back(block);
  });
  num_registered_ = num_blocks();
}

void BlockTable::Grow(BlockManager& manager, int64_t num_positions) {
  const int wanted = NumBlocksFor(num_positions);
  while (num_blocks() < wanted) blocks_.push_back(manager.Allocate());
}

void BlockTable::RegisterFull(BlockManager& manager, absl::string_view salt,
                              absl::Span<const TokenId> tokens) {
  const int num_full = static_cast<int>(tokens.size() / kBlockTokens);
  for (; num_registered_ < num_full; ++num_registered_) {
    const PrefixId prefix =
        num_registered_ == 0 ? kNoPrefix : manager.prefix_id(blocks_[num_registered_ - 1]);
    model::BlockId& block = blocks_[num_registered_];
    block = manager.Register(
        block, {.prefix = prefix,
                .salt = salt,
                .tokens = tokens.subspan(num_registered_ * kBlockTokens, kBlockTokens)});
  }
}

BlockTable BlockTable::Fork(BlockManager& manager, model::ModelRunner& runner,
                            int64_t num_positions) const {
  BlockTable fork;
  const int num_full = static_cast<int>(num_positions / model::kKvBlockTokens);
  CHECK(NumBlocksFor(num_positions) <= num_blocks());
  for (int i = 0; i < num_full; ++i) {
    manager.Share(blocks_[i]);
    fork.blocks_.push_back(blocks_[i]);
  }
  fork.num_registered_ = std::min(num_registered_, num_full);
  if (num_positions % model::kKvBlockTokens != 0 && manager.num_available() > 0) {
    fork.blocks_.push_back(manager.Allocate());
    runner.CopyBlock(blocks_[num_full], fork.blocks_.back());
  }
  return fork;
}

int BlockTable::CountUnshared(const BlockManager& manager) const {
  return static_cast<int>(std::count_if(blocks_.begin(), blocks_.end(), [&](model::BlockId block) {
    return manager.num_holders(block) == 1;
  }));
}

void BlockTable::Release(BlockManager& manager) {
  while (!blocks_.empty()) {
    manager.Release(blocks_.back());
    blocks_.pop_back();
  }
  num_registered_ = 0;
}

}  // namespace sluice::scheduler
