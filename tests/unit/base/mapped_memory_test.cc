#include "base/mapped_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "base/arena.h"

namespace sluice::base {
namespace {

TEST(MappedMemoryTest, IsZeroedAndWritable) {
  for (const auto pages : {MappedMemory::Pages::kNormal, MappedMemory::Pages::kHuge}) {
    for (const int64_t bytes : {int64_t{1}, int64_t{4097}, MappedMemory::kHugePageBytes + 1}) {
      auto memory = MappedMemory::Reserve(bytes, pages);
      ASSERT_TRUE(memory.ok()) << memory.status();
      ASSERT_GE(memory->bytes(), static_cast<size_t>(bytes));
      EXPECT_TRUE(std::all_of(memory->data(), memory->data() + memory->bytes(),
                              [](std::byte b) { return b == std::byte{0}; }));
      std::fill_n(memory->data(), memory->bytes(), std::byte{1});
    }
  }
}

TEST(MappedMemoryTest, HugePagesStartWhereTheyCan) {
  for (int i = 0; i < 5; ++i) {
    auto memory =
        MappedMemory::Reserve(MappedMemory::kHugePageBytes + 1, MappedMemory::Pages::kHuge);
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->data()) % MappedMemory::kHugePageBytes, 0);
    EXPECT_EQ(memory->bytes(), 2 * MappedMemory::kHugePageBytes);
  }
}

TEST(MappedMemoryTest, RefusesWhatTheAddressSpaceDoesNotHold) {
  for (const auto pages : {MappedMemory::Pages::kNormal, MappedMemory::Pages::kHuge}) {
    for (const int64_t bytes : {int64_t{1} << 60, std::numeric_limits<int64_t>::max()})
      EXPECT_TRUE(absl::IsResourceExhausted(MappedMemory::Reserve(bytes, pages).status()));
    for (const int64_t bytes : {int64_t{0}, int64_t{-1}})
      EXPECT_TRUE(absl::IsInvalidArgument(MappedMemory::Reserve(bytes, pages).status()));
  }
}

TEST(MappedMemoryTest, MovesWithItsPages) {
  auto from = MappedMemory::Reserve(100);
  ASSERT_TRUE(from.ok());
  std::byte* data = from->data();
  MappedMemory to = *std::move(from);
  EXPECT_EQ(to.data(), data);
  EXPECT_EQ(from->data(), nullptr);
  auto other = MappedMemory::Reserve(100);
  ASSERT_TRUE(other.ok());
  *other = std::move(to);
  EXPECT_EQ(other->data(), data);
}

TEST(ArenaTest, PiecesFollowEachOtherOnCacheLines) {
  auto arena = Arena::Reserve(Arena::RoundUp(1) + Arena::RoundUp(64) + Arena::RoundUp(65));
  ASSERT_TRUE(arena.ok()) << arena.status();
  std::byte* first = arena->Take(1);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % Arena::kAlignment, 0);
  EXPECT_EQ(arena->Take(64), first + 64);
  Arena moved = *std::move(arena);
  EXPECT_EQ(moved.Take(65), first + 128);
  EXPECT_EQ(moved.taken(), 256);
  EXPECT_EQ(moved.left(), 0);
  EXPECT_EQ(moved.Take(0), first + 256);
}

TEST(ArenaDeathTest, DoesNotOverflow) {
  auto arena = Arena::Reserve(128);
  ASSERT_TRUE(arena.ok()) << arena.status();
  arena->Take(64);
  EXPECT_DEATH(arena->Take(65), "CHECK failed");
  EXPECT_DEATH(arena->Take(-1), "CHECK failed");
}

}  // namespace
}  // namespace sluice::base
