#include "client/connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/client_interceptor.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "base/tls_files.h"
#include "client/address.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice::client {
namespace {

using grpc::experimental::ClientInterceptorFactoryInterface;
using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::Interceptor;

// A server that is lost is looked for again this often, and one that has fallen silent is asked
// whether it is there; servers take pings every 5 s.
constexpr int kMaxReconnectBackoffMs = 10'000;
constexpr int kKeepaliveTimeMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 20'000;

// Of certificates, a key, a token.
constexpr size_t kMaxFileBytes = 1 << 20;

// Adds the token to every call. gRPC's own call credentials would refuse to go over a connection
// without TLS, such as one to a Unix socket.
class TokenInterceptor : public Interceptor {
 public:
  explicit TokenInterceptor(const std::string& authorization) : authorization_(authorization) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->insert({"authorization", authorization_});
    }
    methods->Proceed();
  }

 private:
  const std::string& authorization_;
};

class TokenInterceptorFactory : public ClientInterceptorFactoryInterface {
 public:
  explicit TokenInterceptorFactory(const std::string& token)
      : authorization_(absl::StrCat("Bearer ", token)) {}

  Interceptor* CreateClientInterceptor(grpc::experimental::ClientRpcInfo*) override {
    return new TokenInterceptor(authorization_);
  }

 private:
  const std::string authorization_;
};

// Says what is wrong with the file that `option` names.
absl::Status FileError(absl::string_view option, const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": the file ", path, " ", what));
}

// May be a pipe, such as a shell makes of <(...): it is read to its end.
absl::StatusOr<std::string> ReadFile(absl::string_view option, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  // A folder opens well, and cannot be read.
  if (!file.is_open() || file.bad() || text.empty()) {
    return FileError(option, path, "cannot be read, or is empty");
  }
  if (text.size() > kMaxFileBytes) return FileError(option, path, "is larger than 1 MiB");
  return text;
}

// Whether the options fit together.
absl::Status CheckTls(const ConnectionOptions& options, const Target& target) {
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError("tls_cert and tls_key go together, and one is missing");
  }
  const bool is_on = !options.tls_ca.empty();
  if (!is_on && !options.tls_cert.empty()) {
    return absl::InvalidArgumentError(
        "tls_cert needs tls_ca, the file of those that the server's certificate is signed by");
  }
  if (!is_on && !options.tls_server_name.empty()) {
    return absl::InvalidArgumentError(
        "tls_server_name needs tls_ca: without TLS the server shows no certificate");
  }
  // gRPC would look for a certificate that is for the whole list.
  if (is_on && target.is_list && options.tls_server_name.empty()) {
    return absl::InvalidArgumentError(
        "with tls_ca a list of IP addresses needs tls_server_name, which the certificates of all "
        "of them are for");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const ConnectionOptions& options) {
  if (options.tls_ca.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions files;
  ASSIGN_OR_RETURN(files.pem_root_certs, ReadFile("tls_ca", options.tls_ca));
  const std::string fault = base::CheckTlsCa(files.pem_root_certs);
  if (!fault.empty()) return FileError("tls_ca", options.tls_ca, fault);
  if (!options.tls_cert.empty()) {
    ASSIGN_OR_RETURN(files.pem_cert_chain, ReadFile("tls_cert", options.tls_cert));
    ASSIGN_OR_RETURN(files.pem_private_key, ReadFile("tls_key", options.tls_key));
    const base::TlsPairFaults faults =
        base::CheckTlsPair(files.pem_cert_chain, files.pem_private_key);
    if (!faults.cert.empty()) return FileError("tls_cert", options.tls_cert, faults.cert);
    if (!faults.key.empty()) return FileError("tls_key", options.tls_key, faults.key);
  }
  return grpc::SslCredentials(files);
}

// Each of several servers gets calls in turn, as long as it says itself that it is ready: one that
// drains or still loads is passed over, without a call's being tried there.
std::string Balancing() {
  return absl::StrCat(R"({"loadBalancingConfig": [{"round_robin": {}}],)",
                      R"( "healthCheckConfig": {"serviceName": ")",
                      v1::Generation::service_full_name(), R"("}})");
}

void Configure(const ConnectionOptions& options, const Target& target,
               grpc::ChannelArguments& arguments) {
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectBackoffMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // A request that waits in a queue is silent for longer than two pings.
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  if (target.balanced) arguments.SetServiceConfigJSON(Balancing());
  if (!options.tls_server_name.empty()) {
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, options.tls_server_name);
  }
}

// Metadata is sent as it is, so that nothing else may be in it.
bool IsToken(const std::string& text) {
  for (const char c : text) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) return false;
  }
  return !text.empty();
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const ConnectionOptions& options,
                                                           grpc::ChannelArguments arguments) {
  ASSIGN_OR_RETURN(const Target target, ParseAddress(options.address));
  RETURN_IF_ERROR(CheckTls(options, target));
  Configure(options, target, arguments);
  ASSIGN_OR_RETURN(const auto credentials, MakeCredentials(options));
  if (options.token_file.empty()) {
    return grpc::CreateCustomChannel(target.uri, credentials, arguments);
  }
  ASSIGN_OR_RETURN(std::string token, ReadFile("token_file", options.token_file));
  absl::StripAsciiWhitespace(&token);
  if (!IsToken(token)) {
    return FileError("token_file", options.token_file,
                     "must hold one token of printable characters");
  }
  std::vector<std::unique_ptr<ClientInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(std::make_unique<TokenInterceptorFactory>(token));
  return grpc::experimental::CreateCustomChannelWithInterceptors(target.uri, credentials, arguments,
                                                                 std::move(interceptors));
}

}  // namespace sluice::client
