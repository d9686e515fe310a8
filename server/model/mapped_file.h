// A file mapped into memory for reading.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sluice::model {

// Movable; the mapping ends with the object. May be read from any thread. If another process
// truncates the file meanwhile, reading beyond its new end raises SIGBUS: a checkpoint must not be
// changed while a server loads it.
class MappedFile {
 public:
  // NOT_FOUND if there is no such file; INVALID_ARGUMENT if it cannot be read, is not a regular
  // file, or is empty. Never blocks, whatever kind of file `path` names.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  absl::Span<const std::byte> bytes() const { return bytes_; }
  absl::string_view text() const {
    return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
  }

  // Tells the kernel that the file will be read from front to back.
  void AdviseSequential() const;

 private:
  explicit MappedFile(absl::Span<const std::byte> bytes) : bytes_(bytes) {}

  absl::Span<const std::byte> bytes_;
};

// Drops the pages that lie wholly inside `bytes`, a part of a mapped file, from the process's
// resident memory. They are read again when they are touched again; what shares a page with other
// bytes stays.
void DropPages(absl::Span<const std::byte> bytes);

}  // namespace sluice::model
