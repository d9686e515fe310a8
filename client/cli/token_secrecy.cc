#include "cli/token_secrecy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace sluice::cli {
namespace {

bool IsLoopback(const std::string& host) {
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6;
  if (inet_pton(AF_INET6, host.c_str(), &v6) != 1) return host == "localhost";
  return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

// HOST, HOST:PORT or [HOST]:PORT.
bool IsLocal(absl::string_view server) {
  if (absl::ConsumePrefix(&server, "[")) {
    return IsLoopback(std::string(server.substr(0, server.find(']'))));
  }
  return IsLoopback(std::string(server.substr(0, server.rfind(':'))));
}

}  // namespace

bool IsOnThisMachine(const std::string& address) {
  absl::string_view servers = address;
  if (absl::StartsWith(servers, "unix:")) return true;
  if (absl::ConsumePrefix(&servers, "dns:")) {
    // dns:NAME, or dns://SERVER/NAME, where the one that is asked may be left out.
    if (absl::ConsumePrefix(&servers, "//")) servers = servers.substr(servers.find('/') + 1);
  } else if (!absl::ConsumePrefix(&servers, "ipv4:")) {
    absl::ConsumePrefix(&servers, "ipv6:");
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(servers, ',');
  return std::all_of(parts.begin(), parts.end(), IsLocal);
}

}  // namespace sluice::cli
