// Files that flags name and that are read as a whole: certificates, keys, tokens.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::api {

// INVALID_ARGUMENT: "--flag=path what", for a `what` such as "cannot be read".
absl::Status FlagFileError(absl::string_view flag, const std::string& path, absl::string_view what);

// The contents of the file that `flag`, such as "--tls_cert", names. INVALID_ARGUMENT, naming both,
// if it cannot be read, is no regular file (a pipe is not waited for) or is larger than 1 MiB.
absl::StatusOr<std::string> ReadFlagFile(absl::string_view flag, const std::string& path);

}  // namespace sluice::api
