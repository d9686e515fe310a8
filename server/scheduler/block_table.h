// BlockTable: the blocks that one sequence holds, in order of position.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/token.h"
#include "model/model_runner.h"
#include "scheduler/block_manager.h"

namespace sluice::scheduler {

// The blocks that hold so many positions.
constexpr int NumBlocksFor(int64_t positions) {
  return static_cast<int>((positions + model::kKvBlockTokens - 1) / model::kKvBlockTokens);
}

// What of a sequence's tokens is in the cache: whole blocks, from the first on.
struct CachedPrefix {
  int num_blocks = 0;
  int num_idle = 0;  // of these, cached: nobody holds them now
};

// Counts the blocks with the first of `tokens` that can be had; a last one that is not full never
// can.
CachedPrefix FindCachedPrefix(const BlockManager& manager, absl::string_view salt,
                              absl::Span<const TokenId> tokens);

// For the engine thread alone. `manager` is always the same. A table must be released before it is
// destroyed.
class BlockTable {
 public:
  absl::Span<const model::BlockId> blocks() const { return blocks_; }
  int num_blocks() const { return static_cast<int>(blocks_.size()); }

  // Takes the blocks that FindCachedPrefix counts. REQUIRES: the table is empty.
  void TakeCachedPrefix(BlockManager& manager, absl::string_view salt,
                        absl::Span<const TokenId> tokens);

  // Adds blocks until there is room for so many positions. REQUIRES: they are available.
  void Grow(BlockManager& manager, int64_t num_positions);

  // `tokens` have been computed: lets others find the blocks that are full of them.
  void RegisterFull(BlockManager& manager, absl::string_view salt,
                    absl::Span<const TokenId> tokens);

  // A table for a sequence that has the same first `num_positions` tokens and will write behind
  // them: full blocks are shared, the rest of the positions is copied. If no block is available for
  // the copy, the table ends before it.
  BlockTable Fork(BlockManager& manager, model::ModelRunner& runner, int64_t num_positions) const;

  // How many blocks would become available if the table were released.
  int CountUnshared(const BlockManager& manager) const;

  void Release(BlockManager& manager);

 private:
  std::vector<model::BlockId> blocks_;
  int num_registered_ = 0;  // the first ones
};

}  // namespace sluice::scheduler
