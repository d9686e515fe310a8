#include "scheduler/block_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace sluice::scheduler {
namespace {

using model::BlockId;
using ::testing::ElementsAre;

TEST(BlockManagerTest, HandsOutEachBlockOnce) {
  BlockManager blocks(4);
  EXPECT_THAT(blocks.Allocate(3), ElementsAre(0, 1, 2));
  EXPECT_TRUE(blocks.CanAllocate(1));
  EXPECT_FALSE(blocks.CanAllocate(2));
  EXPECT_THAT(blocks.Allocate(1), ElementsAre(3));
  EXPECT_FALSE(blocks.CanAllocate(1));
  EXPECT_TRUE(blocks.CanAllocate(0));
  EXPECT_EQ(blocks.num_free(), 0);
  EXPECT_EQ(blocks.num_blocks(), 4);
}

TEST(BlockManagerTest, FreedBlocksComeFirst) {
  BlockManager blocks(8);
  const std::vector<BlockId> first = blocks.Allocate(3);
  blocks.Free(first);
  EXPECT_EQ(blocks.num_free(), 8);
  EXPECT_EQ(blocks.Allocate(3), first);
}

TEST(BlockManagerDeathTest, FindsOurOwnMistakes) {
  BlockManager blocks(4);
  const std::vector<BlockId> held = blocks.Allocate(2);
  EXPECT_DEATH(blocks.Allocate(3), "CHECK failed");
  blocks.Free(held);
  EXPECT_DEATH(blocks.Free(held), "CHECK failed");
  EXPECT_DEATH(blocks.Free({4}), "CHECK failed");
  EXPECT_DEATH(blocks.Free({-1}), "CHECK failed");
}

TEST(BlockManagerTest, NoBlockIsEverHeldTwiceOrLost) {
  constexpr int kBlocks = 50;
  constexpr uint32_t kSeed = 20240607;
  SCOPED_TRACE(::testing::Message() << "seed " << kSeed);
  std::mt19937 random(kSeed);
  const auto below = [&random](size_t n) { return random() % n; };

  BlockManager blocks(kBlocks);
  std::vector<std::vector<BlockId>> holders;
  std::vector<int> num_holders(kBlocks, 0);
  int num_used = 0;
  for (int operation = 0; operation < 100'000; ++operation) {
    const int wanted = static_cast<int>(below(12));
    if (below(2) == 0 && blocks.CanAllocate(wanted)) {
      holders.push_back(blocks.Allocate(wanted));
      ASSERT_EQ(holders.back().size(), static_cast<size_t>(wanted));
      for (const BlockId block : holders.back()) ASSERT_EQ(++num_holders.at(block), 1);
      num_used += wanted;
    } else if (!holders.empty()) {
      std::swap(holders[below(holders.size())], holders.back());
      for (const BlockId block : holders.back()) --num_holders.at(block);
      num_used -= static_cast<int>(holders.back().size());
      blocks.Free(holders.back());
      holders.pop_back();
    }
    ASSERT_EQ(blocks.num_free() + num_used, kBlocks);
    ASSERT_EQ(blocks.CanAllocate(wanted), wanted <= kBlocks - num_used);
  }
}

}  // namespace
}  // namespace sluice::scheduler
