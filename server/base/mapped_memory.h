// MappedMemory: a large stretch of zeroed memory that the kernel backs with pages when they are
// first touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"

namespace sluice::base {

// Movable, owns its pages; moved from, it has none. Not synchronised, but the memory itself may be
// touched by many threads at once.
class MappedMemory {
 public:
  enum class Pages {
    kNormal,
    // The stretch starts at a multiple of 2 MiB, and the kernel is asked to back it with pages of
    // that size, so that walking through it costs few address translations. A wish: where such
    // pages are switched off or cannot be found, it has normal ones. Touching one byte may then
    // take 2 MiB.
    kHuge,
  };
  static constexpr int64_t kHugePageBytes = int64_t{2} << 20;

  // At least `bytes` of address space, which takes memory only as it is touched.
  // INVALID_ARGUMENT if bytes < 1; RESOURCE_EXHAUSTED if there is no such stretch.
  static absl::StatusOr<MappedMemory> Reserve(int64_t bytes, Pages pages = Pages::kNormal);

  MappedMemory(MappedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MappedMemory& operator=(MappedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedMemory();

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  MappedMemory(std::byte* data, size_t bytes) : data_(data), bytes_(bytes) {}

  std::byte* data_;
  size_t bytes_;
};

}  // namespace sluice::base
