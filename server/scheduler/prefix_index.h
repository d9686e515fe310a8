// PrefixIndex: finds the block that holds given tokens behind given others.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/token.h"
#include "model/model_runner.h"

namespace sluice::scheduler {

// Stands for the tokens of an indexed block and for all before them. Never used again, so it never
// comes to mean other tokens.
using PrefixId = uint64_t;
// In front of the first block.
inline constexpr PrefixId kNoPrefix = 0;

// What a full block holds.
struct BlockContents {
  PrefixId prefix = kNoPrefix;  // what stands before
  // Blocks of other salts hold other things; looked at only where the prefix is kNoPrefix, which is
  // enough.
  absl::string_view salt;
  absl::Span<const TokenId> tokens;  // [kKvBlockTokens]
};

// For the engine thread alone. A block is found by the hash of its contents, but all of them are
// compared: blocks whose hashes are equal are never taken for each other. After construction it
// allocates nothing but long salts.
class PrefixIndex {
 public:
  using Hash = uint64_t (*)(const BlockContents&);
  static uint64_t DefaultHash(const BlockContents& contents);

  explicit PrefixIndex(int num_blocks, Hash hash = DefaultHash);

  std::optional<model::BlockId> Find(const BlockContents& contents) const;

  // REQUIRES: the block is not in the index, and neither are the contents.
  void Add(model::BlockId block, const BlockContents& contents);
  // REQUIRES: Contains(block).
  void Remove(model::BlockId block);

  bool Contains(model::BlockId block) const { return entries_[block].id != kNoPrefix; }
  // What stands before a block that comes behind this one. REQUIRES: Contains(block).
  PrefixId id(model::BlockId block) const;

 private:
  static constexpr model::BlockId kNone = -1;

  struct Entry {
    PrefixId id = kNoPrefix;  // kNoPrefix: not in the index
    PrefixId prefix = kNoPrefix;
    std::string salt;
    std::array<TokenId, model::kKvBlockTokens> tokens;
    size_t bucket = 0;
    model::BlockId next = kNone;  // in the same bucket
  };

  static bool Holds(const Entry& entry, const BlockContents& contents);
  size_t BucketOf(const BlockContents& contents) const;

  const Hash hash_;
  PrefixId last_id_ = kNoPrefix;
  std::vector<Entry> entries_;           // by block
  std::vector<model::BlockId> buckets_;  // the first block of each; a power of two of them
};

}  // namespace sluice::scheduler
