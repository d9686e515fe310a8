#include "api/tls_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "api/flag_file.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/tls_files.h"

namespace sluice::api {
namespace {

void LogExpiry(const char* event, const TlsPem& pem) {
  const absl::Time expiry = base::TlsExpiry(pem.cert);
  base::Log().info("{} certificate_expires={}", event,
                   absl::FormatTime(absl::RFC3339_sec, expiry, absl::UTCTimeZone()));
  if (expiry <= absl::Now())
    base::Log().warn("the certificate has expired: clients will refuse it");
}

}  // namespace

absl::StatusOr<TlsPem> ReadTlsFiles(const TlsFiles& files) {
  TlsPem pem;
  ASSIGN_OR_RETURN(pem.cert, ReadFlagFile("--tls_cert", files.cert));
  ASSIGN_OR_RETURN(pem.key, ReadFlagFile("--tls_key", files.key));
  const base::TlsPairFaults faults = base::CheckTlsPair(pem.cert, pem.key);
  if (!faults.cert.empty()) return FlagFileError("--tls_cert", files.cert, faults.cert);
  if (!faults.key.empty()) return FlagFileError("--tls_key", files.key, faults.key);
  if (!files.client_ca.empty()) {
    ASSIGN_OR_RETURN(pem.client_ca, ReadFlagFile("--tls_client_ca", files.client_ca));
    const std::string fault = base::CheckTlsCa(pem.client_ca);
    if (!fault.empty()) return FlagFileError("--tls_client_ca", files.client_ca, fault);
  }
  return pem;
}

// gRPC has a provider of its own that watches files, but it passes on a key that does not fit, and
// then no connection can be made any more. Here gRPC asks at each handshake, and gets what was
// checked.
class TlsCredentials::PortCredentials : public grpc::ServerCredentials {
 public:
  explicit PortCredentials(TlsCredentials& owner) : owner_(owner) {}

  // Tokens are checked elsewhere, on ports without TLS too.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    const auto certificates_of_clients =
        owner_.files_.client_ca.empty()
            ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
            : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    grpc_server_credentials* const credentials = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(certificates_of_clients,
                                                                        &Fetch, this));
    const int port = grpc_server_add_http2_port(server, address.c_str(), credentials);
    grpc_server_credentials_release(credentials);
    return port;
  }

  // Called by gRPC before each handshake, one call at a time.
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    auto& port = *static_cast<PortCredentials*>(self);
    const Current current = port.owner_.current();
    if (current.version == port.version_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    port.version_ = current.version;
    const grpc_ssl_pem_key_cert_pair pair = {current.pem.key.c_str(), current.pem.cert.c_str()};
    // gRPC insists on having authorities even if it asks no client for a certificate.
    const std::string& authorities =
        current.pem.client_ca.empty() ? current.pem.cert : current.pem.client_ca;
    *config = grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  TlsCredentials& owner_;
  // That gRPC was told last; 0 before the first.
  uint64_t version_ = 0;
};

absl::StatusOr<std::unique_ptr<TlsCredentials>> TlsCredentials::Load(const TlsFiles& files) {
  ASSIGN_OR_RETURN(TlsPem pem, ReadTlsFiles(files));
  LogExpiry("tls files read", pem);
  return std::unique_ptr<TlsCredentials>(new TlsCredentials(files, std::move(pem)));
}

TlsCredentials::TlsCredentials(const TlsFiles& files, TlsPem pem)
    : files_(files), current_{std::move(pem), 1} {}

TlsCredentials::Current TlsCredentials::current() const {
  base::MutexLock lock(mutex_);
  return current_;
}

void TlsCredentials::Reload() {
  base::MutexLock reload_lock(reload_mutex_);
  absl::StatusOr<TlsPem> pem = ReadTlsFiles(files_);
  if (!pem.ok()) {
    base::Log().error("tls files not taken, the old ones stay in use: {}",
                      std::string(pem.status().message()));
    return;
  }
  {
    base::MutexLock lock(mutex_);
    if (*pem == current_.pem) return;
    current_.pem = *pem;
    ++current_.version;
  }
  LogExpiry("tls files read again", *pem);
}

std::shared_ptr<grpc::ServerCredentials> TlsCredentials::ForPort() {
  auto port = std::make_shared<PortCredentials>(*this);
  base::MutexLock lock(mutex_);
  ports_.push_back(port);
  return port;
}

}  // namespace sluice::api
