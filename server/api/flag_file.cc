#include "api/flag_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace sluice::api {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

// At most kMaxBytes + 1 bytes.
absl::StatusOr<std::string> ReadAll(int fd) {
  std::string text(kMaxBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t n = read(fd, &text[size], text.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::UnavailableError(std::strerror(errno));
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  text.resize(size);
  return text;
}

}  // namespace

absl::Status FlagFileError(absl::string_view flag, const std::string& path,
                           absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(flag, "=", path, " ", what));
}

absl::StatusOr<std::string> ReadFlagFile(absl::string_view flag, const std::string& path) {
  const auto unreadable = [&](absl::string_view why) {
    return FlagFileError(flag, path, absl::StrCat("cannot be read: ", why));
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return unreadable(std::strerror(errno));
  struct stat found {};
  const bool is_file = fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
  absl::StatusOr<std::string> text =
      is_file ? ReadAll(fd) : absl::UnavailableError("it is no file");
  close(fd);
  if (!text.ok()) return unreadable(text.status().message());
  if (text->size() > kMaxBytes) return FlagFileError(flag, path, "is larger than 1 MiB");
  return text;
}

}  // namespace sluice::api
