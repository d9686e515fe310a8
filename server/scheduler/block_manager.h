// BlockManager: who holds which blocks of the KV cache, and which finished ones may be found again.
// It hands out indices; the memory is the model's.
//
//            Allocate               Release, indexed
//   free  ------------->  used  ----------------------->  cached   (least recently used first)
//     ^ <-----------------  ^ <-----------------------------  |
//     |  Release, not indexed         Share                   |
//     +-------------------------------------------------------+   Allocate, when none is free
#pragma once

#include <optional>
#include <vector>

#include "model/model_runner.h"
#include "scheduler/prefix_index.h"

namespace sluice::scheduler {

// For the engine thread alone. Every block is free, or used by at least one holder, or cached: full
// of tokens that a later request may begin with, and given away when no free one is left.
class BlockManager {
 public:
  // `hash` is for tests.
  explicit BlockManager(int num_blocks, PrefixIndex::Hash hash = PrefixIndex::DefaultHash);

  int num_blocks() const { return static_cast<int>(num_holders_.size()); }
  int num_free() const { return static_cast<int>(free_.size()); }
  int num_cached() const { return num_cached_; }
  int num_used() const { return num_blocks() - num_free() - num_cached_; }
  // How many Allocate can give.
  int num_available() const { return num_free() + num_cached_; }
  int num_holders(model::BlockId block) const { return num_holders_[block]; }

  // A block with one holder and no contents: a free one, that which was used last first, as it is
  // likeliest to be in the processor's cache; otherwise the cached one that nobody has used for
  // longest, which is forgotten. REQUIRES: num_available() >= 1.
  model::BlockId Allocate();

  // Adds a holder. REQUIRES: the block is used or cached.
  void Share(model::BlockId block);

  // Takes a holder away; with the last one the block becomes cached if it was registered, otherwise
  // free. Holders release the last of their blocks first: then a block is never given away before
  // those that stand behind it, which could not be found without it. REQUIRES: the block is used.
  void Release(model::BlockId block);

  // A used or cached block with these contents.
  std::optional<model::BlockId> Find(const BlockContents& contents) const {
    return index_.Find(contents);
  }

  // All of the block's positions have been computed: from now on it is found. If another block with
  // these contents is found already, the holder gets that instead, and `block` is free. Returns the
  // block to hold. REQUIRES: `block` has one holder and is not registered.
  model::BlockId Register(model::BlockId block, const BlockContents& contents);

  // REQUIRES: the block is registered.
  PrefixId prefix_id(model::BlockId block) const { return index_.id(block); }

 private:
  struct Links {
    model::BlockId previous = 0;
    model::BlockId next = 0;
  };

  bool IsCached(model::BlockId block) const;
  void Link(model::BlockId block);
  void Unlink(model::BlockId block);

  PrefixIndex index_;
  std::vector<int> num_holders_;      // by block
  std::vector<model::BlockId> free_;  // a stack
  int num_cached_ = 0;
  // The cached blocks in a ring: behind its end, the entry after the last block, comes the least
  // recently used.
  std::vector<Links> ring_;
};

}  // namespace sluice::scheduler
