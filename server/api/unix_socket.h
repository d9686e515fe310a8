// What listening on a Unix socket takes besides gRPC, which would take the path from a server that
// still listens on it, removes what has that path when it ends, whoever's it is by then, and leaves
// the permissions to chance.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::api {

// The path in "unix:/path"; empty for another address.
std::string SocketPathOf(absl::string_view address);

// The name of a socket in the file system: the socket is made under another one, in the same
// folder, and then gets this one in a single step. Remove may be called by any thread, the rest by
// one.
class SocketFile {
 public:
  // UNAVAILABLE, as from Publish, if the folder cannot be opened.
  static absl::StatusOr<std::unique_ptr<SocketFile>> Create(const std::string& path);
  ~SocketFile();
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;

  // Where the socket is to be made, valid as long as this: "unix:..."
  std::string first_address() const;

  // Gives the socket that listens there its name. A socket of that name is replaced if nobody
  // listens on it any more, as a server leaves one behind that was killed. UNAVAILABLE, naming the
  // flag and the path, if somebody listens on it, if it is something else, or if the folder stays
  // locked (flock). Of servers that do this at the same time one gets the name.
  absl::Status Publish();

  // Removes the name, unless another socket has it by now or Publish was not called.
  void Remove();

 private:
  SocketFile(std::string path, std::string first_name, int folder);

  absl::Status Error(absl::string_view what) const;
  absl::Status CheckFree() const;

  const std::string path_;
  const std::string first_name_;
  // Descriptor of the folder.
  const int folder_;
  // What Publish found under the first name.
  uint64_t device_ = 0;
  uint64_t inode_ = 0;
  std::atomic<bool> is_published_{false};
};

// While it lives, the process makes files with at most the permissions `mode`: those of a socket
// are right from its first moment. For the whole process, so not for long.
class FileModeLimit {
 public:
  explicit FileModeLimit(int mode);
  ~FileModeLimit();
  FileModeLimit(const FileModeLimit&) = delete;
  FileModeLimit& operator=(const FileModeLimit&) = delete;

 private:
  const unsigned previous_mask_;
};

}  // namespace sluice::api
