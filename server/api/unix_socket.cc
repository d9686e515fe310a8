#include "api/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace sluice::api {
namespace {

// Whether a connection is taken, or may be once there is room.
bool IsListenedOn(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return false;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;
  const bool refused =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 &&
      errno == ECONNREFUSED;
  close(fd);
  return !refused;
}

}  // namespace

std::string SocketPathOf(absl::string_view address) {
  return absl::ConsumePrefix(&address, "unix:") ? std::string(address) : "";
}

absl::Status ClearSocketPath(const std::string& path) {
  const auto error = [&](absl::string_view what) {
    return absl::UnavailableError(absl::StrCat("cannot listen on unix:", path, ": ", what));
  };
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) {
    return errno == ENOENT ? absl::OkStatus() : error(std::strerror(errno));
  }
  if (!S_ISSOCK(found.st_mode)) return error("there is something else of that name");
  if (IsListenedOn(path)) return error("another server listens on it");
  if (unlink(path.c_str()) != 0) {
    return error(absl::StrCat("the old socket cannot be removed: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

FileModeLimit::FileModeLimit(int mode) : previous_mask_(umask(static_cast<mode_t>(~mode & 0777))) {}

FileModeLimit::~FileModeLimit() { umask(previous_mask_); }

}  // namespace sluice::api
