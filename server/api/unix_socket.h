// What listening on a Unix socket takes besides gRPC, which would take the path from a server that
// still listens on it, and leaves the permissions to chance.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace sluice::api {

// The path in "unix:/path"; empty for another address.
std::string SocketPathOf(absl::string_view address);

// Makes sure that a socket can be made at `path`: removes one that nobody listens on any more, as a
// server leaves behind that was killed. UNAVAILABLE, naming the path, if somebody listens on it or
// if there is something else.
absl::Status ClearSocketPath(const std::string& path);

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
