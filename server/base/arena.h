// Arena: one large stretch of memory, handed out piece by piece and freed as a whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "base/check.h"
#include "base/mapped_memory.h"
#include "base/status_macros.h"

namespace sluice::base {

// Movable: pieces stay where they are, and live as long as the arena that has the memory. One
// thread at a time may take pieces; each piece is its user's.
class Arena {
 public:
  // Every piece starts at a cache line, which is also the widest vector.
  static constexpr int64_t kAlignment = 64;

  // What a piece of `bytes` takes of the arena.
  static constexpr int64_t RoundUp(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  // Room for pieces whose sizes, each rounded up, sum to `bytes`; errors as MappedMemory::Reserve
  // has them.
  static absl::StatusOr<Arena> Reserve(int64_t bytes,
                                       MappedMemory::Pages pages = MappedMemory::Pages::kNormal) {
    ASSIGN_OR_RETURN(MappedMemory memory, MappedMemory::Reserve(bytes, pages));
    return Arena(std::move(memory));
  }

  // The next `bytes`, zeroed and not touched yet. REQUIRES: bytes >= 0, and there is room.
  std::byte* Take(int64_t bytes) {
    CHECK(bytes >= 0 && bytes <= left());
    std::byte* piece = memory_.data() + taken_;
    taken_ += RoundUp(bytes);
    return piece;
  }

  int64_t taken() const { return taken_; }
  int64_t left() const {
    return static_cast<int64_t>(memory_.bytes()) / kAlignment * kAlignment - taken_;
  }

 private:
  explicit Arena(MappedMemory memory) : memory_(std::move(memory)) {}

  MappedMemory memory_;
  int64_t taken_ = 0;
};

}  // namespace sluice::base
