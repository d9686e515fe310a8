#include "api/unix_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"

namespace sluice::api {
namespace {

// How long another server may take to give its socket a name, which takes it microseconds.
constexpr absl::Duration kLockTime = absl::Seconds(2);
constexpr absl::Duration kLockInterval = absl::Milliseconds(5);

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

// A lock on a folder, for those who ask for one. A file system that knows none is done without.
class FolderLock {
 public:
  explicit FolderLock(int folder) : folder_(folder) {
    const absl::Time last = absl::Now() + kLockTime;
    for (;;) {
      if (flock(folder_, LOCK_EX | LOCK_NB) == 0) return;
      if (errno == EINTR) continue;
      is_taken_ = errno == EWOULDBLOCK;
      if (!is_taken_ || absl::Now() >= last) return;
      absl::SleepFor(kLockInterval);
      is_taken_ = false;
    }
  }
  ~FolderLock() { flock(folder_, LOCK_UN); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  // Somebody else has had it all the time.
  bool is_taken() const { return is_taken_; }

 private:
  const int folder_;
  bool is_taken_ = false;
};

// Unlike the number of a process, not the same in another container that shares the folder.
std::string NewName() {
  std::random_device random;
  return absl::StrCat(".sluice.", absl::Hex(random(), absl::kZeroPad8),
                      absl::Hex(random(), absl::kZeroPad8));
}

absl::Status PathError(const std::string& path, absl::string_view what) {
  return absl::UnavailableError(absl::StrCat("--listen=unix:", path, ": ", what));
}

}  // namespace

std::string SocketPathOf(absl::string_view address) {
  return absl::ConsumePrefix(&address, "unix:") ? std::string(address) : "";
}

absl::StatusOr<std::unique_ptr<SocketFile>> SocketFile::Create(const std::string& path) {
  const std::filesystem::path parts(path);
  const int folder = open(parts.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) {
    return PathError(path, absl::StrCat("the folder cannot be opened: ", std::strerror(errno)));
  }
  return std::unique_ptr<SocketFile>(new SocketFile(path, NewName(), folder));
}

SocketFile::SocketFile(std::string path, std::string first_name, int folder)
    : path_(std::move(path)), first_name_(std::move(first_name)), folder_(folder) {}

SocketFile::~SocketFile() {
  Remove();
  // There if Publish was not called, or failed.
  unlinkat(folder_, first_name_.c_str(), 0);
  close(folder_);
}

// By way of the folder's descriptor, since the name may be longer than the one that was asked for,
// and that may have all the bytes that an address has.
std::string SocketFile::first_address() const {
  return absl::StrCat("unix:/proc/self/fd/", folder_, "/", first_name_);
}

absl::Status SocketFile::Error(absl::string_view what) const { return PathError(path_, what); }

absl::Status SocketFile::CheckFree() const {
  struct stat found {};
  if (lstat(path_.c_str(), &found) != 0) {
    return errno == ENOENT ? absl::OkStatus() : Error(std::strerror(errno));
  }
  if (!S_ISSOCK(found.st_mode)) return Error("there is something else of that name");
  if (IsListenedOn(path_)) return Error("another server listens on it");
  return absl::OkStatus();
}

absl::Status SocketFile::Publish() {
  const FolderLock lock(folder_);
  if (lock.is_taken()) return Error("another process holds a lock on the folder");
  RETURN_IF_ERROR(CheckFree());
  struct stat made {};
  if (fstatat(folder_, first_name_.c_str(), &made, AT_SYMLINK_NOFOLLOW) != 0 ||
      renameat(folder_, first_name_.c_str(), AT_FDCWD, path_.c_str()) != 0) {
    return Error(std::strerror(errno));
  }
  device_ = made.st_dev;
  inode_ = made.st_ino;
  is_published_ = true;
  return absl::OkStatus();
}

void SocketFile::Remove() {
  if (!is_published_.exchange(false)) return;
  struct stat found {};
  if (lstat(path_.c_str(), &found) == 0 && found.st_dev == device_ && found.st_ino == inode_) {
    unlink(path_.c_str());
  }
}

FileModeLimit::FileModeLimit(int mode) : previous_mask_(umask(static_cast<mode_t>(~mode & 0777))) {}

FileModeLimit::~FileModeLimit() { umask(previous_mask_); }

}  // namespace sluice::api
