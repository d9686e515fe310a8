// IsSocketPath: where Unix sockets may be.
#pragma once

#include "absl/strings/string_view.h"

namespace sluice::base {

// Whether `path`, absolute or relative, can name a Unix socket: it fits into sockaddr_un, it is not
// a folder's, and neither two slashes at its start nor any character mean something of their own in
// a URI, which gRPC makes of it.
bool IsSocketPath(absl::string_view path);

}  // namespace sluice::base
