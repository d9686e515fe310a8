#include "client/address.h"

#include <arpa/inet.h>

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace sluice::client {
namespace {

bool IsPort(absl::string_view text) {
  int port = 0;
  return absl::SimpleAtoi(text, &port) && port > 0 && port <= 65535;
}

// Whether `part` is an address of `family` and a port.
bool IsIpAndPort(const std::string& part, int family) {
  const size_t colon = part.rfind(':');
  if (colon == std::string::npos || !IsPort(absl::string_view(part).substr(colon + 1))) {
    return false;
  }
  std::string host = part.substr(0, colon);
  if (family == AF_INET6) {
    if (host.size() < 2 || host.front() != '[' || host.back() != ']') return false;
    host = host.substr(1, host.size() - 2);
  }
  in6_addr ignored;
  return inet_pton(family, host.c_str(), &ignored) == 1;
}

bool AreAll(const std::vector<std::string>& parts, int family) {
  for (const std::string& part : parts) {
    if (!IsIpAndPort(part, family)) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<Target> ParseAddress(const std::string& address) {
  for (const char* scheme : {"dns:", "ipv4:", "ipv6:"}) {
    if (absl::StartsWith(address, scheme)) return Target{address, /*balanced=*/true};
  }
  if (absl::StartsWith(address, "unix:") || !absl::StrContains(address, ',')) {
    return Target{address, /*balanced=*/false};
  }
  const std::vector<std::string> parts = absl::StrSplit(address, ',');
  if (AreAll(parts, AF_INET)) return Target{absl::StrCat("ipv4:", address), /*balanced=*/true};
  if (AreAll(parts, AF_INET6)) return Target{absl::StrCat("ipv6:", address), /*balanced=*/true};
  return absl::InvalidArgumentError(
      absl::StrCat("several servers are IP:PORT,IP:PORT, all of IPv4 or all of IPv6 (for names: "
                   "dns:///NAME:PORT), not \"",
                   address, "\""));
}

}  // namespace sluice::client
