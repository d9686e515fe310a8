#include "base/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <ctime>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"

namespace sluice::base {
namespace {

constexpr char kNoCertificate[] = "holds no certificate in PEM form, or a damaged one";

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

// Without this, the library asks the terminal for the password of what has one.
int NoPassword(char*, int, int, void*) { return -1; }

// None if one of them cannot be read.
std::vector<Certificate> CertificatesIn(const std::string& pem) {
  const Bio bytes = BytesOf(pem);
  std::vector<Certificate> certificates;
  while (X509* certificate = PEM_read_bio_X509_AUX(bytes.get(), nullptr, NoPassword, nullptr)) {
    certificates.emplace_back(certificate);
  }
  // At the end of the text, there is no further one.
  const bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!is_end) certificates.clear();
  return certificates;
}

Key KeyIn(const std::string& pem) {
  const Bio bytes = BytesOf(pem);
  Key key(PEM_read_bio_PrivateKey(bytes.get(), nullptr, NoPassword, nullptr));
  ERR_clear_error();
  return key;
}

// Why OpenSSL, which has its own idea of what is secure, would not use the chain or the key for
// connections; empty if it would.
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

}  // namespace

TlsPairFaults CheckTlsPair(const std::string& cert, const std::string& key) {
  const std::vector<Certificate> chain = CertificatesIn(cert);
  if (chain.empty()) return {.cert = kNoCertificate};
  const Key private_key = KeyIn(key);
  if (private_key == nullptr) {
    return {.key = "holds no private key in PEM form without a password"};
  }
  const bool fits = X509_check_private_key(chain.front().get(), private_key.get()) == 1;
  ERR_clear_error();
  if (!fits) return {.key = "is not the key of the certificate"};
  const std::string why = WhyRefused(chain, private_key.get());
  return {.cert = why.empty() ? "" : absl::StrCat("is refused by OpenSSL: ", why)};
}

std::string CheckTlsCa(const std::string& ca) {
  return CertificatesIn(ca).empty() ? kNoCertificate : "";
}

absl::Time TlsExpiry(const std::string& cert) {
  const std::vector<Certificate> chain = CertificatesIn(cert);
  std::tm time{};
  if (chain.empty() || ASN1_TIME_to_tm(X509_get0_notAfter(chain.front().get()), &time) != 1) {
    return absl::InfiniteFuture();
  }
  return absl::FromTM(time, absl::UTCTimeZone());
}

}  // namespace sluice::base
