// IsSocketPath: what may stand behind "unix:" in an address.
#pragma once

#include "absl/strings/string_view.h"

namespace sluice::base {

// Whether `path`, absolute or relative, can name a Unix socket: it fits into sockaddr_un, it is not
// a folder's, and no character of it means something of its own in a URI, which gRPC takes it for.
bool IsSocketPath(absl::string_view path);

}  // namespace sluice::base
