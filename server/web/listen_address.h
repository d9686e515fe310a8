// ListenAddress: HOST:PORT as --metrics_listen has it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::web {

struct ListenAddress {
  std::string host;  // as it was written; an IPv6 address has its brackets
  int port = 0;

  // INVALID_ARGUMENT that names the address if it is not HOST:PORT with a port up to 65535.
  static absl::StatusOr<ListenAddress> Parse(absl::string_view address);
};

}  // namespace sluice::web
