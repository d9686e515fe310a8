#include "scheduler/prefix_index.h"

#include <algorithm>
#include <cstddef>

#include "absl/hash/hash.h"
#include "base/check.h"

namespace sluice::scheduler {
namespace {

size_t PowerOfTwoAbove(size_t n) {
  size_t power = 1;
  while (power <= n) power *= 2;
  return power;
}

}  // namespace

uint64_t PrefixIndex::DefaultHash(const BlockContents& contents) {
  const absl::string_view salt = contents.prefix == kNoPrefix ? contents.salt : absl::string_view();
  return absl::HashOf(contents.prefix, salt, contents.tokens);
}

PrefixIndex::PrefixIndex(int num_blocks, Hash hash)
    : hash_(hash), entries_(num_blocks), buckets_(PowerOfTwoAbove(num_blocks), kNone) {}

std::optional<model::BlockId> PrefixIndex::Find(const BlockContents& contents) const {
  DCHECK(contents.tokens.size() == static_cast<size_t>(model::kKvBlockTokens));
  for (model::BlockId block = buckets_[BucketOf(contents)]; block != kNone;
       block = entries_[block].next) {
    if (Holds(entries_[block], contents)) return block;
  }
  return std::nullopt;
}

void PrefixIndex::Add(model::BlockId block, const BlockContents& contents) {
  Entry& entry = entries_[block];
  CHECK(entry.id == kNoPrefix);
  DCHECK(!Find(contents).has_value());
  entry.id = ++last_id_;
  entry.prefix = contents.prefix;
  entry.salt.clear();
  if (contents.prefix == kNoPrefix) entry.salt.assign(contents.salt.data(), contents.salt.size());
  std::copy_n(contents.tokens.begin(), model::kKvBlockTokens, entry.tokens.begin());
  entry.bucket = BucketOf(contents);
  entry.next = buckets_[entry.bucket];
  buckets_[entry.bucket] = block;
}

void PrefixIndex::Remove(model::BlockId block) {
  Entry& entry = entries_[block];
  CHECK(entry.id != kNoPrefix);
  model::BlockId* link = &buckets_[entry.bucket];
  while (*link != block) link = &entries_[*link].next;
  *link = entry.next;
  entry.id = kNoPrefix;
}

PrefixId PrefixIndex::id(model::BlockId block) const {
  DCHECK(Contains(block));
  return entries_[block].id;
}

bool PrefixIndex::Holds(const Entry& entry, const BlockContents& contents) {
  return entry.prefix == contents.prefix &&
         std::equal(entry.tokens.begin(), entry.tokens.end(), contents.tokens.begin()) &&
         (entry.prefix != kNoPrefix || contents.salt == entry.salt);
}

size_t PrefixIndex::BucketOf(const BlockContents& contents) const {
  return hash_(contents) & (buckets_.size() - 1);
}

}  // namespace sluice::scheduler
