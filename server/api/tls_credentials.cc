#include "api/tls_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "api/flag_file.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace sluice::api {
namespace {

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Context = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;

Bio BytesOf(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

std::vector<Certificate> CertificatesIn(const std::string& pem) {
  const Bio bytes = BytesOf(pem);
  std::vector<Certificate> certificates;
  while (X509* certificate = PEM_read_bio_X509(bytes.get(), nullptr, nullptr, nullptr)) {
    certificates.emplace_back(certificate);
  }
  // The end of the text counts as an error.
  ERR_clear_error();
  return certificates;
}

Key KeyIn(const std::string& pem) {
  const Bio bytes = BytesOf(pem);
  // Without this, the library asks the terminal for the password of a key that has one.
  const auto no_password = [](char*, int, int, void*) { return -1; };
  Key key(PEM_read_bio_PrivateKey(bytes.get(), nullptr, no_password, nullptr));
  ERR_clear_error();
  return key;
}

// Why OpenSSL, which has its own idea of what is secure, would not use the chain or the key for
// connections; empty if it would. gRPC finds out only when the first client comes.
std::string WhyRefused(const std::vector<Certificate>& chain, EVP_PKEY* key) {
  ERR_clear_error();
  const Context context(SSL_CTX_new(TLS_method()));
  bool is_taken =
      context != nullptr && SSL_CTX_use_certificate(context.get(), chain.front().get()) == 1;
  for (size_t i = 1; is_taken && i < chain.size(); ++i) {
    is_taken = SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) == 1;
  }
  is_taken = is_taken && SSL_CTX_use_PrivateKey(context.get(), key) == 1;
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  if (is_taken) return "";
  return reason != nullptr ? reason : "no reason given";
}

// When the first certificate of a chain expires.
absl::Time ExpiryOf(const TlsPem& pem) {
  const std::vector<Certificate> certificates = CertificatesIn(pem.cert);
  std::tm time{};
  if (certificates.empty() ||
      ASN1_TIME_to_tm(X509_get0_notAfter(certificates.front().get()), &time) != 1) {
    return absl::InfiniteFuture();
  }
  return absl::FromTM(time, absl::UTCTimeZone());
}

void LogExpiry(const char* event, const TlsPem& pem) {
  const absl::Time expiry = ExpiryOf(pem);
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
  const std::vector<Certificate> certificates = CertificatesIn(pem.cert);
  if (certificates.empty()) {
    return FlagFileError("--tls_cert", files.cert, "holds no certificate in PEM form");
  }
  const Key key = KeyIn(pem.key);
  if (key == nullptr) {
    return FlagFileError("--tls_key", files.key,
                         "holds no private key in PEM form without a password");
  }
  const bool fits = X509_check_private_key(certificates.front().get(), key.get()) == 1;
  ERR_clear_error();
  if (!fits) {
    return FlagFileError("--tls_key", files.key,
                         absl::StrCat("is not the key of the certificate --tls_cert=", files.cert));
  }
  if (const std::string why = WhyRefused(certificates, key.get()); !why.empty()) {
    return FlagFileError("--tls_cert", files.cert, absl::StrCat("is refused by OpenSSL: ", why));
  }
  if (!files.client_ca.empty()) {
    ASSIGN_OR_RETURN(pem.client_ca, ReadFlagFile("--tls_client_ca", files.client_ca));
    if (CertificatesIn(pem.client_ca).empty()) {
      return FlagFileError("--tls_client_ca", files.client_ca, "holds no certificate in PEM form");
    }
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
