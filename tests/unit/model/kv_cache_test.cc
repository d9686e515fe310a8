#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <set>

namespace sluice::model {
namespace {

using kernels::KvFormat;

constexpr KvCache::Shape kShape = {
    .num_layers = 3, .num_kv_heads = 2, .head_dim = 20, .format = KvFormat::kF32};

TEST(KvCacheTest, HasAsManyBlocksAsTheBudgetHolds) {
  EXPECT_EQ(kShape.block_bytes(), 2 * 3 * 2 * 32 * 16 * 4) << "whole lines of 16 channels";
  KvCache::Shape bf16 = kShape;
  bf16.format = KvFormat::kBf16;
  EXPECT_EQ(bf16.block_bytes(), kShape.block_bytes() / 2);
  for (const auto& [extra, blocks] : {std::pair{0, 7}, {1, 7}, {-1, 6}}) {
    const auto cache = KvCache::Create(kShape, 7 * kShape.block_bytes() + extra);
    ASSERT_TRUE(cache.ok()) << cache.status();
    EXPECT_EQ(cache->num_blocks(), blocks);
  }
}

TEST(KvCacheTest, ABudgetBelowOneBlockIsAnError) {
  for (const int64_t bytes : {int64_t{-5}, int64_t{0}, kShape.block_bytes() - 1}) {
    EXPECT_EQ(KvCache::Create(kShape, bytes).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(KvCacheTest, KeysAndValuesOfAllPlacesAreApart) {
  for (const KvFormat format : {KvFormat::kF32, KvFormat::kBf16}) {
    KvCache::Shape shape = kShape;
    shape.format = format;
    const int64_t element = format == KvFormat::kF32 ? 4 : 2;
    auto cache = KvCache::Create(shape, 4 * shape.block_bytes());
    ASSERT_TRUE(cache.ok()) << cache.status();
    // Every channel of every position has an element of its own, inside the cache.
    std::set<const std::byte*> seen;
    for (int block = 0; block < 4; ++block) {
      for (int layer = 0; layer < 3; ++layer) {
        const kernels::PagedKvView view = cache->layer(layer);
        for (int head = 0; head < 2; ++head) {
          for (int slot = 0; slot < 16; ++slot) {
            for (int d = 0; d < 20; ++d) {
              EXPECT_EQ(view.Key(block, head, slot, d), 0) << "untouched memory is zero";
              EXPECT_EQ(view.Value(block, head, slot, d), 0);
              seen.insert(view.keys(block, head) + element * view.KeyIndex(slot, d));
              seen.insert(view.values(block, head) + element * view.ValueIndex(slot, d));
            }
          }
        }
      }
    }
    EXPECT_EQ(seen.size(), 4 * 3 * 2 * 2 * 16 * 20);
    EXPECT_EQ(*seen.begin(), cache->layer(0).data);
    EXPECT_LE(*seen.rbegin() + element - *seen.begin(), 4 * shape.block_bytes());
  }
}

}  // namespace
}  // namespace sluice::model
