// What stands in the PEM files of TLS, as OpenSSL reads them. gRPC looks at them only when the
// first connection is made, and says little then.
#pragma once

#include <string>

#include "absl/time/time.h"

namespace sluice::base {

// What is wrong with the files of a certificate and its key, in words that follow a file's name,
// such as "holds no certificate in PEM form". Empty: nothing is wrong; at most one is set.
struct TlsPairFaults {
  std::string cert;
  std::string key;
};

// `cert` is a chain, its holder's own certificate first. OpenSSL refuses what it does not find
// secure: a key that is too short for it, a signature that is too weak.
TlsPairFaults CheckTlsPair(const std::string& cert, const std::string& key);

// What is wrong with a file of authorities' certificates, in words as above. Empty: nothing.
std::string CheckTlsCa(const std::string& ca);

// When the first certificate of a chain expires; InfiniteFuture if there is none.
absl::Time TlsExpiry(const std::string& cert);

}  // namespace sluice::base
