// TlsCredentials: what the port shows to clients over TLS, and which clients' certificates it
// takes, from files that may be replaced while it serves.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace sluice::api {

// Paths of PEM files.
struct TlsFiles {
  std::string cert;
  std::string key;
  // Empty: clients need no certificate.
  std::string client_ca;
};

// The contents of those files.
struct TlsPem {
  std::string cert;
  std::string key;
  std::string client_ca;

  bool operator==(const TlsPem&) const = default;
};

// INVALID_ARGUMENT, naming the file's flag, if the files cannot be read, hold no certificates or no
// key, if the key is not the certificate's, or if OpenSSL would not use them, since a key is too
// short for it or a signature too weak.
absl::StatusOr<TlsPem> ReadTlsFiles(const TlsFiles& files);

// Thread-safe. Must outlive the servers that it was given to.
class TlsCredentials {
 public:
  // Errors as ReadTlsFiles.
  static absl::StatusOr<std::unique_ptr<TlsCredentials>> Load(const TlsFiles& files);

  // Reads the files again: connections that are made from now on see what is in them. What is wrong
  // with them is logged, and then those that were read before stay in use.
  void Reload();

  // For one call of grpc::ServerBuilder::AddListeningPort.
  std::shared_ptr<grpc::ServerCredentials> ForPort();

 private:
  class PortCredentials;
  struct Current {
    TlsPem pem;
    uint64_t version = 0;
  };

  TlsCredentials(const TlsFiles& files, TlsPem pem);

  Current current() const;

  const TlsFiles files_;
  // Held from reading the files to taking over what they say, so that no older reading comes last.
  base::Mutex reload_mutex_;
  mutable base::Mutex mutex_;
  Current current_ ABSL_GUARDED_BY(mutex_);
  // gRPC keeps pointers into them.
  std::vector<std::shared_ptr<PortCredentials>> ports_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::api
