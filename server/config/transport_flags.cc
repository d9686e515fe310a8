#include <array>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "config/flag_setters.h"
#include "config/flags.h"

namespace sluice::config {
namespace {

using C = ServerConfig;

absl::StatusOr<std::vector<std::string>> ParseListen(const std::string& text) {
  std::vector<std::string> addresses;
  for (const absl::string_view address : absl::StrSplit(text, ',')) {
    ASSIGN_OR_RETURN(addresses.emplace_back(), absl::StartsWith(address, "unix:")
                                                   ? ParseSocketPath(address)
                                                   : ParseAddress(address));
  }
  return addresses;
}

absl::StatusOr<std::string> ParseMetricsListen(const std::string& text) {
  if (text.empty()) return text;
  return ParseIpAddress(text);
}

absl::StatusOr<std::string> ParseLogLevel(const std::string& text) {
  for (const char* level : {"debug", "info", "warning", "error"}) {
    if (text == level) return text;
  }
  return absl::InvalidArgumentError("must be debug, info, warning or error");
}

absl::StatusOr<std::string> ParseAccessLog(const std::string& text) {
  if (!text.empty()) return text;
  return absl::InvalidArgumentError("must be off, stderr or a file");
}

constexpr std::array<Flag, 17> kFlags = {{
    {{"listen", "ADDRESS,...", "127.0.0.1:50051",
      "Where gRPC is served: HOST:PORT (0.0.0.0 is all interfaces, port 0 picks a free one) or "
      "unix:/path of a socket"},
     SetParsed<&C::listen, ParseListen>},
    {{"socket_mode", "MODE", "0660",
      "Permissions of Unix sockets, in octal; who may write may call"},
     SetParsed<&C::socket_mode, ParseFileMode>},
    {{"metrics_listen", "IP:PORT", "127.0.0.1:9090",
      "Where metrics, health and the built-in page are served; empty turns them off"},
     SetParsed<&C::metrics_listen, ParseMetricsListen>},
    {{"tls_cert", "FILE", "",
      "Certificate chain of the server, PEM: turns TLS on. This and the other files of TLS are "
      "read again when they change"},
     SetText<&C::tls_cert>},
    {{"tls_key", "FILE", "", "Private key of the certificate, PEM"}, SetText<&C::tls_key>},
    {{"tls_client_ca", "FILE", "",
      "Certificates that clients' certificates must be signed by, PEM; clients without are "
      "refused"},
     SetText<&C::tls_client_ca>},
    {{"auth_tokens", "FILE", "",
      "Who may call: lines of \"name sha256-of-token [requests_per_second=R] [concurrent=N]\"; "
      "read again when it changes. Empty: everybody"},
     SetText<&C::auth_tokens>},
    {{"max_message_bytes", "SIZE", "4MiB", "The largest message that a client may send"},
     SetBytes<&C::max_message_bytes, 1024, int64_t{1} << 30>},
    {{"max_metadata_bytes", "SIZE", "16KiB", "The largest metadata that a client may send"},
     SetBytes<&C::max_metadata_bytes, 1024, int64_t{1} << 20>},
    {{"max_concurrent_streams", "N", "1024", "Calls that one connection may have open at once"},
     SetInt<&C::max_concurrent_streams, 1, 1000000>},
    {{"grpc_memory_bytes", "SIZE", "1GiB", "Memory that gRPC may hold for all connections"},
     SetBytes<&C::grpc_memory_bytes, int64_t{16} << 20, int64_t{1} << 40>},
    {{"keepalive_time", "SECONDS", "30",
      "A connection that is silent for so long is asked whether it is still there"},
     SetSeconds<&C::keepalive_time, 1>},
    {{"keepalive_timeout", "SECONDS", "20", "How long the answer may take before its calls end"},
     SetSeconds<&C::keepalive_timeout, 1>},
    {{"access_log", "FILE|stderr|off", "stderr", "Where a line of JSON is written for every call"},
     SetParsed<&C::access_log, ParseAccessLog>},
    {{"log_prompts", "true|false", "false", "Whether these lines hold prompts and answers"},
     SetBool<&C::log_prompts>},
    {{"log_level", "debug|info|warning|error", "info", "The least severe events that are logged"},
     SetParsed<&C::log_level, ParseLogLevel>},
    {{"drain_timeout", "SECONDS", "30",
      "How long running requests may go on after the server was told to stop"},
     SetSeconds<&C::drain_timeout, 0>},
}};

}  // namespace

absl::Span<const Flag> TransportFlags() { return kFlags; }

}  // namespace sluice::config
