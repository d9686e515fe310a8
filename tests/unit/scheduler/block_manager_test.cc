#include "scheduler/block_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "scheduler/block_table.h"
#include "test_engine.h"

namespace sluice::scheduler {
namespace {

using model::BlockId;
using ::testing::ElementsAre;

std::vector<TokenId> Tokens(int count, TokenId first = 0) {
  std::vector<TokenId> tokens(count);
  for (int i = 0; i < count; ++i) tokens[i] = first + i;
  return tokens;
}

// Every block has the same hash.
uint64_t Collide(const BlockContents&) { return 7; }

std::vector<BlockId> Allocate(BlockManager& manager, int count) {
  std::vector<BlockId> blocks;
  for (int i = 0; i < count; ++i) blocks.push_back(manager.Allocate());
  return blocks;
}

// What is counted as free, used and cached.
std::tuple<int, int, int> Counts(const BlockManager& manager) {
  return {manager.num_free(), manager.num_used(), manager.num_cached()};
}

// Computes `tokens` and gives the blocks back.
void Cache(BlockManager& manager, absl::Span<const TokenId> tokens, absl::string_view salt = "") {
  BlockTable table;
  table.TakeCachedPrefix(manager, salt, tokens);
  table.Grow(manager, static_cast<int64_t>(tokens.size()));
  table.RegisterFull(manager, salt, tokens);
  table.Release(manager);
}

int NumFound(const BlockManager& manager, absl::Span<const TokenId> tokens,
             absl::string_view salt = "") {
  return FindCachedPrefix(manager, salt, tokens).num_blocks;
}

TEST(BlockManagerTest, HandsOutEachBlockOnceTheLastUsedFirst) {
  BlockManager manager(4);
  EXPECT_THAT(Allocate(manager, 4), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(Counts(manager), std::tuple(0, 4, 0));
  manager.Release(2);
  manager.Release(1);
  EXPECT_EQ(Counts(manager), std::tuple(2, 2, 0));
  EXPECT_THAT(Allocate(manager, 2), ElementsAre(1, 2));
}

TEST(BlockManagerTest, ABlockIsFreeWhenItsLastHolderReleasesIt) {
  BlockManager manager(2);
  const BlockId block = manager.Allocate();
  manager.Share(block);
  EXPECT_EQ(manager.num_holders(block), 2);
  manager.Release(block);
  EXPECT_EQ(manager.num_free(), 1);
  manager.Release(block);
  EXPECT_EQ(manager.num_free(), 2);
}

TEST(BlockManagerDeathTest, FindsOurOwnMistakes) {
  BlockManager manager(2);
  const BlockId block = manager.Allocate();
  manager.Allocate();
  EXPECT_DEATH(manager.Allocate(), "CHECK failed");
  manager.Release(block);
  EXPECT_DEATH(manager.Release(block), "CHECK failed");
  EXPECT_DEATH(manager.Share(block), "CHECK failed");
  EXPECT_DEATH(manager.Release(2), "CHECK failed");
  EXPECT_DEATH(manager.Release(-1), "CHECK failed");
}

TEST(PrefixCacheTest, FindsWhatTheTableSays) {
  const std::vector<TokenId> cached = Tokens(40);  // two full blocks
  std::vector<TokenId> other_second = Tokens(40);
  other_second[31] = -1;
  std::vector<TokenId> other_first = Tokens(40);
  other_first[0] = -1;
  struct Row {
    std::string claim;
    std::vector<TokenId> tokens;
    std::string salt;
    int num_blocks;
  };
  const Row table[] = {
      {"the same", cached, "s", 2},
      {"longer", Tokens(100), "s", 2},
      {"one token short of a block", Tokens(31), "s", 1},
      {"exactly the blocks", Tokens(32), "s", 2},
      {"less than a block", Tokens(15), "s", 0},
      {"nothing", {}, "s", 0},
      {"the second block differs", other_second, "s", 1},
      {"the first block differs", other_first, "s", 0},
      {"the second block without the first", Tokens(16, 16), "s", 0},
      {"another salt", cached, "t", 0},
      {"no salt", cached, "", 0},
  };
  for (const auto hash : {&PrefixIndex::DefaultHash, &Collide}) {
    BlockManager manager(8, hash);
    Cache(manager, cached, "s");
    for (const Row& row : table) {
      EXPECT_EQ(NumFound(manager, row.tokens, row.salt), row.num_blocks) << row.claim;
    }
  }
}

TEST(PrefixCacheTest, EqualBlocksBehindDifferentOnesAreDifferent) {
  for (const auto hash : {&PrefixIndex::DefaultHash, &Collide}) {
    BlockManager manager(8, hash);
    std::vector<TokenId> a = Tokens(32);
    std::vector<TokenId> b = Tokens(32);
    b[3] = -1;
    Cache(manager, a);
    EXPECT_EQ(NumFound(manager, b), 0);
    Cache(manager, b);
    EXPECT_EQ(manager.num_cached(), 4);
    BlockTable table_a, table_b;
    table_a.TakeCachedPrefix(manager, "", a);
    table_b.TakeCachedPrefix(manager, "", b);
    ASSERT_EQ(table_a.num_blocks(), 2);
    ASSERT_EQ(table_b.num_blocks(), 2);
    EXPECT_NE(table_a.blocks()[0], table_b.blocks()[0]);
    EXPECT_NE(table_a.blocks()[1], table_b.blocks()[1]);
    table_a.Release(manager);
    table_b.Release(manager);
  }
}

TEST(PrefixCacheTest, HoldersShareTheirBlocks) {
  BlockManager manager(8);
  const std::vector<TokenId> tokens = Tokens(40);
  Cache(manager, tokens);
  EXPECT_EQ(Counts(manager), std::tuple(6, 0, 2));
  BlockTable a, b;
  a.TakeCachedPrefix(manager, "", tokens);
  b.TakeCachedPrefix(manager, "", tokens);
  EXPECT_EQ(a.blocks(), b.blocks());
  EXPECT_EQ(Counts(manager), std::tuple(6, 2, 0));
  EXPECT_EQ(FindCachedPrefix(manager, "", tokens).num_idle, 0);
  a.Grow(manager, 40);
  EXPECT_EQ(a.CountUnshared(manager), 1);
  a.Release(manager);
  EXPECT_EQ(b.CountUnshared(manager), 2);
  EXPECT_EQ(Counts(manager), std::tuple(6, 2, 0));
  b.Release(manager);
  EXPECT_EQ(Counts(manager), std::tuple(6, 0, 2));
  EXPECT_EQ(FindCachedPrefix(manager, "", tokens).num_idle, 2);
}

TEST(PrefixCacheTest, ABlockIsFoundOnlyWhenAllOfItIsComputed) {
  BlockManager manager(8);
  const std::vector<TokenId> tokens = Tokens(32);
  BlockTable table;
  table.Grow(manager, 32);
  for (int computed = 0; computed <= 32; ++computed) {
    table.RegisterFull(manager, "", absl::MakeConstSpan(tokens).first(computed));
    EXPECT_EQ(NumFound(manager, tokens), computed / 16) << computed;
  }
  table.Release(manager);
}

TEST(PrefixCacheTest, WhoComputedTheSameGoesOnWithTheBlockThatIsFound) {
  BlockManager manager(8);
  const std::vector<TokenId> tokens = Tokens(32);
  BlockTable a, b;
  a.Grow(manager, 32);
  b.Grow(manager, 32);
  EXPECT_EQ(manager.num_used(), 4);
  a.RegisterFull(manager, "", tokens);
  b.RegisterFull(manager, "", tokens);
  EXPECT_EQ(a.blocks(), b.blocks());
  EXPECT_EQ(manager.num_used(), 2);
  a.Release(manager);
  b.Release(manager);
  EXPECT_EQ(Counts(manager), std::tuple(6, 0, 2));
}

TEST(PrefixCacheTest, TheLeastRecentlyUsedIsGivenAwayFirstAndTheEndOfAPrefixBeforeItsBeginning) {
  BlockManager manager(6);
  const std::vector<TokenId> old = Tokens(48, 1000), recent = Tokens(48, 2000);
  Cache(manager, recent);
  Cache(manager, old);
  Cache(manager, recent);  // uses it again
  EXPECT_EQ(Counts(manager), std::tuple(0, 0, 6));
  struct Row {
    int num_old, num_recent;
  };
  for (const Row& row : {Row{2, 3}, {1, 3}, {0, 3}, {0, 2}, {0, 1}, {0, 0}}) {
    manager.Allocate();
    EXPECT_EQ(NumFound(manager, old), row.num_old);
    EXPECT_EQ(NumFound(manager, recent), row.num_recent);
  }
}

TEST(PrefixCacheTest, FreeBlocksAreGivenAwayBeforeCachedOnes) {
  BlockManager manager(6);
  Cache(manager, Tokens(48));
  EXPECT_EQ(manager.num_available(), 6);
  Allocate(manager, 3);
  EXPECT_EQ(NumFound(manager, Tokens(48)), 3);
  manager.Allocate();
  EXPECT_EQ(NumFound(manager, Tokens(48)), 2);
}

TEST(PrefixCacheTest, WhatIsHeldIsNeverGivenAway) {
  BlockManager manager(4);
  Cache(manager, Tokens(64));
  BlockTable table;
  table.TakeCachedPrefix(manager, "", Tokens(32));
  Allocate(manager, 2);
  EXPECT_EQ(manager.num_available(), 0);
  EXPECT_EQ(NumFound(manager, Tokens(64)), 2);
  table.Release(manager);
}

TEST(BlockTableTest, AForkSharesFullBlocksAndCopiesTheRest) {
  struct Row {
    std::string claim;
    int num_blocks;
    int num_positions;
    int num_shared;
    int num_copied;
  };
  const Row table[] = {
      {"nothing", 8, 0, 0, 0},
      {"part of a block", 8, 1, 0, 1},
      {"all but one of it", 8, 15, 0, 1},
      {"a block", 8, 16, 1, 0},
      {"more than a block", 8, 17, 1, 1},
      {"two blocks", 8, 32, 2, 0},
      {"no block for the copy", 3, 17, 1, 0},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.claim);
    BlockManager manager(row.num_blocks);
    testing::FakeModelRunner runner({.num_kv_blocks = row.num_blocks});
    BlockTable original;
    original.Grow(manager, 40);
    BlockTable fork = original.Fork(manager, runner, row.num_positions);
    ASSERT_EQ(fork.num_blocks(), row.num_shared + row.num_copied);
    for (int i = 0; i < fork.num_blocks(); ++i) {
      EXPECT_EQ(fork.blocks()[i] == original.blocks()[i], i < row.num_shared);
    }
    EXPECT_EQ(manager.num_used(), 3 + row.num_copied);
    original.Release(manager);
    fork.Release(manager);
    EXPECT_EQ(manager.num_free(), row.num_blocks);
  }
}

// Tables of random sequences with few different tokens, and beside them what each block must hold.
TEST(BlockTableTest, NoBlockIsLostOrHasTwoContentsOverRandomOperations) {
  constexpr int kBlocks = 40;
  constexpr uint32_t kSeed = 20240607;
  for (const auto hash : {&PrefixIndex::DefaultHash, &Collide}) {
    SCOPED_TRACE(::testing::Message() << "seed " << kSeed);
    std::mt19937 random(kSeed);
    const auto below = [&random](size_t n) { return static_cast<int>(random() % n); };

    struct Holder {
      std::string salt;
      std::vector<TokenId> tokens;
      BlockTable table;
    };
    BlockManager manager(kBlocks, hash);
    testing::FakeModelRunner runner({.num_kv_blocks = kBlocks});
    std::vector<Holder> holders;
    // What was last computed into each block, with all before it.
    std::vector<std::pair<std::string, std::vector<TokenId>>> contents(kBlocks);
    int num_shared = 0;
    for (int operation = 0; operation < 20'000; ++operation) {
      if (below(2) == 0) {
        Holder holder;
        holder.salt = below(2) == 0 ? "" : "salt";
        // One of two tokens, the same for a whole block: many beginnings are alike.
        for (int block = below(6); block >= 0; --block) {
          holder.tokens.insert(holder.tokens.end(), 16, below(2));
        }
        holder.tokens.resize(holder.tokens.size() - below(16));
        const CachedPrefix cached = FindCachedPrefix(manager, holder.salt, holder.tokens);
        const int num_blocks = NumBlocksFor(static_cast<int64_t>(holder.tokens.size()));
        if (num_blocks - cached.num_blocks + cached.num_idle > manager.num_available()) continue;
        holder.table.TakeCachedPrefix(manager, holder.salt, holder.tokens);
        ASSERT_EQ(holder.table.num_blocks(), cached.num_blocks);
        num_shared += cached.num_blocks;
        holder.table.Grow(manager, static_cast<int64_t>(holder.tokens.size()));
        for (int i = cached.num_blocks; i < num_blocks; ++i) {
          const size_t end = std::min<size_t>((i + 1) * 16, holder.tokens.size());
          contents[holder.table.blocks()[i]] = {
              holder.salt, {holder.tokens.begin(), holder.tokens.begin() + end}};
        }
        holder.table.RegisterFull(manager, holder.salt, holder.tokens);
        holders.push_back(std::move(holder));
      } else if (!holders.empty()) {
        std::swap(holders[below(holders.size())], holders.back());
        holders.back().table.Release(manager);
        holders.pop_back();
      }
      std::map<BlockId, int> num_holders;
      for (const Holder& holder : holders) {
        for (int i = 0; i < holder.table.num_blocks(); ++i) {
          const BlockId block = holder.table.blocks()[i];
          ++num_holders[block];
          const size_t end = std::min<size_t>((i + 1) * 16, holder.tokens.size());
          const std::vector<TokenId> want(holder.tokens.begin(), holder.tokens.begin() + end);
          ASSERT_EQ(contents[block].second, want) << "at operation " << operation;
          ASSERT_EQ(contents[block].first, holder.salt);
        }
      }
      for (const auto& [block, count] : num_holders) ASSERT_EQ(manager.num_holders(block), count);
      ASSERT_EQ(manager.num_used(), static_cast<int>(num_holders.size()));
      ASSERT_EQ(manager.num_free() + manager.num_used() + manager.num_cached(), kBlocks);
    }
    EXPECT_GT(num_shared, 1000);
  }
}

}  // namespace
}  // namespace sluice::scheduler
