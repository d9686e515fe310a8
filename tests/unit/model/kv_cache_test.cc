#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <set>

namespace sluice::model {
namespace {

constexpr KvCache::Shape kShape = {.num_layers = 3, .num_kv_heads = 2, .head_dim = 5};

TEST(KvCacheTest, HasAsManyBlocksAsTheBudgetHolds) {
  EXPECT_EQ(kShape.block_bytes(), 2 * 3 * 2 * 5 * 16 * 4);
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
  auto cache = KvCache::Create(kShape, 4 * kShape.block_bytes());
  ASSERT_TRUE(cache.ok()) << cache.status();
  // Write every float once; then none may have been written twice.
  float next = 1;
  std::set<float*> seen;
  for (int block = 0; block < 4; ++block) {
    for (int layer = 0; layer < 3; ++layer) {
      const kernels::PagedKvView view = cache->layer(layer);
      for (int head = 0; head < 2; ++head) {
        for (float* place : {view.keys(block, head), view.values(block, head)}) {
          for (int i = 0; i < 5 * 16; ++i) {
            EXPECT_EQ(place[i], 0) << "untouched memory is zero";
            place[i] = next++;
            EXPECT_TRUE(seen.insert(place + i).second);
          }
        }
      }
    }
  }
  EXPECT_EQ(*seen.rbegin() - *seen.begin() + 1, static_cast<int64_t>(seen.size()));
}

}  // namespace
}  // namespace sluice::model
