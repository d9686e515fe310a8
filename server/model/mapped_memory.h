// MappedMemory: a large stretch of zeroed memory that the kernel backs with pages when they are
// first touched.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace sluice::model {

// Movable, owns its pages.
class MappedMemory {
 public:
  // RESOURCE_EXHAUSTED if there is no such stretch of address space.
  static absl::StatusOr<MappedMemory> Reserve(int64_t bytes) {
    void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot reserve ", bytes, " bytes of memory"));
    }
    return MappedMemory(static_cast<std::byte*>(data), static_cast<size_t>(bytes));
  }

  MappedMemory(MappedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MappedMemory& operator=(MappedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedMemory() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }

  std::byte* data() { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  MappedMemory(std::byte* data, size_t bytes) : data_(data), bytes_(bytes) {}

  std::byte* data_;
  size_t bytes_;
};

}  // namespace sluice::model
