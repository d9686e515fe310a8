#include "base/mapped_memory.h"

#include <sys/mman.h>

#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::base {
namespace {

std::byte* Map(size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
}

// `bytes`, a multiple of the huge page, that start at one.
std::byte* MapAligned(size_t bytes) {
  constexpr size_t kPage = MappedMemory::kHugePageBytes;
  std::byte* data = Map(bytes + kPage);
  if (data == nullptr) return nullptr;
  // Hand back what lies before and behind.
  const size_t before = (kPage - reinterpret_cast<uintptr_t>(data) % kPage) % kPage;
  if (before > 0) munmap(data, before);
  munmap(data + before + bytes, kPage - before);
  // Refused where the kernel was built without huge pages: then normal ones have to do.
  madvise(data + before, bytes, MADV_HUGEPAGE);
  return data + before;
}

}  // namespace

absl::StatusOr<MappedMemory> MappedMemory::Reserve(int64_t bytes, Pages pages) {
  if (bytes < 1) {
    return absl::InvalidArgumentError(absl::StrCat("cannot reserve ", bytes, " bytes of memory"));
  }
  const auto exhausted = [bytes] {
    return absl::ResourceExhaustedError(absl::StrCat("cannot reserve ", bytes, " bytes of memory"));
  };
  size_t size = static_cast<size_t>(bytes);
  std::byte* data = nullptr;
  if (pages == Pages::kHuge) {
    if (bytes > std::numeric_limits<int64_t>::max() - 2 * kHugePageBytes) return exhausted();
    size = (size + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
    data = MapAligned(size);
  } else {
    data = Map(size);
  }
  if (data == nullptr) return exhausted();
  return MappedMemory(data, size);
}

MappedMemory::~MappedMemory() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

}  // namespace sluice::base
