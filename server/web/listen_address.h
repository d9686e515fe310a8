// ListenAddress: HOST:PORT as --metrics_listen has it, and the sockets of this process that are
// there.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::web {

struct ListenAddress {
  std::string host;  // as it was written; an IPv6 address has its brackets
  std::string ip;    // its 4 or 16 bytes; all of them zero: every interface
  int port = 0;

  // INVALID_ARGUMENT that names the address if it is not HOST:PORT with an IP address, "localhost"
  // or nothing (every interface of IPv4) as the host, and a port up to 65535.
  static absl::StatusOr<ListenAddress> Parse(absl::string_view address);
};

// Shuts down every TCP socket of this process whose own end is `address`, with the port that is
// really listened on: the listener and the connections that it accepted. Whoever waits for one of
// them wakes up; who owns it still has to close it. Thread-safe.
void CutOff(const ListenAddress& address);

}  // namespace sluice::web
