#include "web/listen_address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace sluice::web {
namespace {

template <typename Address>
std::string BytesOf(const Address& address) {
  return std::string(reinterpret_cast<const char*>(&address), sizeof(address));
}

std::optional<std::string> IpOf(const std::string& host) {
  if (host.empty()) return std::string(sizeof(in_addr), '\0');
  if (absl::string_view inner = host;
      absl::ConsumePrefix(&inner, "[") && absl::ConsumeSuffix(&inner, "]")) {
    in6_addr v6{};
    if (inet_pton(AF_INET6, std::string(inner).c_str(), &v6) == 1) return BytesOf(v6);
    return std::nullopt;
  }
  in_addr v4{};
  if (inet_pton(AF_INET, host == "localhost" ? "127.0.0.1" : host.c_str(), &v4) == 1) {
    return BytesOf(v4);
  }
  return std::nullopt;
}

// Whether a file is a TCP socket whose own end is there. What else the process has with the same
// port has another address: the kernel gives an address and port that are listened on to nobody
// else. The other end says nothing: a peer may well use the same port.
bool IsAt(int file, const ListenAddress& address) {
  int type = 0;
  socklen_t size = sizeof(type);
  if (getsockopt(file, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) return false;
  sockaddr_storage own{};
  size = sizeof(own);
  if (getsockname(file, reinterpret_cast<sockaddr*>(&own), &size) != 0) return false;
  std::string ip;
  in_port_t port = 0;
  if (own.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(own);
    ip = BytesOf(v4.sin_addr);
    port = v4.sin_port;
  } else if (own.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(own);
    ip = BytesOf(v6.sin6_addr);
    port = v6.sin6_port;
  }
  const bool is_any = address.ip == std::string(address.ip.size(), '\0');
  return ntohs(port) == address.port &&
         (is_any ? ip.size() == address.ip.size() : ip == address.ip);
}

}  // namespace

absl::StatusOr<ListenAddress> ListenAddress::Parse(absl::string_view address) {
  const size_t colon = address.rfind(':');
  const std::string host(address.substr(0, colon));
  const std::optional<std::string> ip = IpOf(host);
  int port = 0;
  if (colon == absl::string_view::npos || !ip.has_value() ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("metrics address \"", address, "\" is not HOST:PORT"));
  }
  return ListenAddress{.host = host, .ip = *ip, .port = port};
}

void CutOff(const ListenAddress& address) {
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    int file = -1;
    if (!absl::SimpleAtoi(it->path().filename().string(), &file) || !IsAt(file, address)) continue;
    // Its number may be given to somebody else's socket at any time; a copy stays what it is.
    const int copy = fcntl(file, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) continue;
    if (IsAt(copy, address)) shutdown(copy, SHUT_RDWR);
    close(copy);
  }
}

}  // namespace sluice::web
