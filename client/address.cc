#include "client/address.h"

#include <arpa/inet.h>

#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/socket_path.h"

namespace sluice::client {
namespace {

bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }

bool MayBeInName(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_';
}

// One that can be connected to.
bool IsPort(absl::string_view text) {
  int port = 0;
  return absl::c_all_of(text, IsDigit) && absl::SimpleAtoi(text, &port) && port > 0 &&
         port <= 65535;
}

bool IsIp(absl::string_view text, int family) {
  in6_addr ignored;
  return inet_pton(family, std::string(text).c_str(), &ignored) == 1;
}

// An IPv6 address in brackets, which may have a zone ("[fe80::1%eth0]") if `zones`.
bool IsBracketed(absl::string_view host, bool zones) {
  if (!absl::ConsumePrefix(&host, "[") || !absl::ConsumeSuffix(&host, "]")) return false;
  const size_t percent = zones ? host.find('%') : absl::string_view::npos;
  if (percent == absl::string_view::npos) return IsIp(host, AF_INET6);
  const absl::string_view zone = host.substr(percent + 1);
  return IsIp(host.substr(0, percent), AF_INET6) && !zone.empty() &&
         absl::c_all_of(zone, MayBeInName);
}

// Whether `text` is HOST:PORT, and `is_host` takes the host.
template <typename IsHost>
bool IsHostAndPort(absl::string_view text, const IsHost& is_host) {
  const size_t colon = text.rfind(':');
  return colon != absl::string_view::npos && IsPort(text.substr(colon + 1)) &&
         is_host(text.substr(0, colon));
}

bool IsServer(absl::string_view text) {
  return IsHostAndPort(text, [](absl::string_view host) {
    return (!host.empty() && absl::c_all_of(host, MayBeInName)) ||
           IsBracketed(host, /*zones=*/true);
  });
}

bool IsList(const std::vector<absl::string_view>& parts, int family) {
  const auto is_host = [family](absl::string_view host) {
    return family == AF_INET6 ? IsBracketed(host, /*zones=*/false) : IsIp(host, family);
  };
  return absl::c_all_of(parts,
                        [&](absl::string_view part) { return IsHostAndPort(part, is_host); });
}

// "/path", "path" or "///path".
bool IsSocket(absl::string_view path) {
  if (absl::ConsumePrefix(&path, "//") && !absl::StartsWith(path, "/")) return false;
  return base::IsSocketPath(path);
}

// NAME:PORT, or the same after "//RESOLVER/", where the resolver may be left out.
bool IsDnsTarget(absl::string_view text) {
  if (absl::ConsumePrefix(&text, "//")) {
    const size_t slash = text.find('/');
    if (slash == absl::string_view::npos) return false;
    text.remove_prefix(slash + 1);
  }
  return IsServer(text);
}

absl::Status Refuse(absl::string_view form, const std::string& address) {
  return absl::InvalidArgumentError(absl::StrCat(form, ", not \"", address, "\""));
}

}  // namespace

absl::StatusOr<Target> ParseAddress(const std::string& address) {
  absl::string_view rest = address;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    if (IsSocket(rest)) return Target{address};
    return Refuse("a socket is unix:/path of at most 107 bytes, without blanks, # ? and %",
                  address);
  }
  if (absl::ConsumePrefix(&rest, "dns:")) {
    if (IsDnsTarget(rest)) return Target{address, /*balanced=*/true};
    return Refuse("servers of one name are dns:///NAME:PORT", address);
  }
  const bool is_ipv4 = absl::ConsumePrefix(&rest, "ipv4:");
  const bool is_ipv6 = !is_ipv4 && absl::ConsumePrefix(&rest, "ipv6:");
  const std::vector<absl::string_view> parts = absl::StrSplit(rest, ',');
  if (!is_ipv4 && !is_ipv6 && parts.size() == 1) {
    if (IsServer(address)) return Target{address};
    return Refuse(
        "a server is HOST:PORT, with a port from 1 to 65535 and an IPv6 address in brackets, "
        "unix:/path or dns:///NAME:PORT",
        address);
  }
  const bool is_list = parts.size() > 1;
  if (!is_ipv6 && IsList(parts, AF_INET)) {
    return Target{absl::StrCat("ipv4:", rest), /*balanced=*/true, is_list};
  }
  if (!is_ipv4 && IsList(parts, AF_INET6)) {
    return Target{absl::StrCat("ipv6:", rest), /*balanced=*/true, is_list};
  }
  return Refuse(
      "several servers are IP:PORT,IP:PORT, all of IPv4 or all of IPv6 (for names: "
      "dns:///NAME:PORT)",
      address);
}

}  // namespace sluice::client
