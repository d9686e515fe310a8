// Where a client's servers are, in the words of gRPC. Nothing here connects.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace sluice::client {

struct Target {
  // What a channel is made for.
  std::string uri;
  // Whether there may be several servers, among which each call goes to one.
  bool balanced = false;
  // Several IP addresses: there is no host that a certificate could be for.
  bool is_list = false;
};

// `address` is one of
//
//   HOST:PORT                  one server; IPv6 addresses stand in brackets
//   unix:/path                 the same
//   IP:PORT,IP:PORT,...        several; all IPv4, or all IPv6
//   dns:///NAME:PORT           those that the name has now
//   ipv4:..., ipv6:...         as gRPC writes the second form
//
// with ports from 1 to 65535. INVALID_ARGUMENT for what is none of these.
absl::StatusOr<Target> ParseAddress(const std::string& address);

}  // namespace sluice::client
