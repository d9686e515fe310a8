// Whether a token that is sent without TLS stays between the client and its server.
#pragma once

#include <string>

namespace sluice::cli {

// Whether all servers at `address`, in any of the forms that a client takes, are on this machine:
// on Unix sockets, or at localhost or loopback addresses. No name but localhost is resolved.
bool IsOnThisMachine(const std::string& address);

}  // namespace sluice::cli
