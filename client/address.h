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
};

// `address` is one of
//
//   HOST:PORT, unix:/path      one server
//   IP:PORT,IP:PORT,...        several; all IPv4, or all IPv6 in brackets
//   dns:///NAME:PORT           those that the name has now
//   ipv4:..., ipv6:...         as gRPC writes the second form
//
// INVALID_ARGUMENT for a list that is none of these.
absl::StatusOr<Target> ParseAddress(const std::string& address);

}  // namespace sluice::client
