// Exposer: answers GET /metrics over HTTP, at all times, with two threads of its own.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "metrics/server_metrics.h"

namespace prometheus {
class Exposer;
}  // namespace prometheus

namespace sluice::metrics {

// Used by one thread; serves until it is destroyed.
class Exposer {
 public:
  // Listens on `address`, HOST:PORT with an IP address ([...] around an IPv6 one) or "localhost" or
  // an empty host (all interfaces). Port 0 picks a free port. INVALID_ARGUMENT if the address is
  // malformed, UNAVAILABLE if it cannot be listened on; both name the address.
  static absl::StatusOr<std::unique_ptr<Exposer>> Start(absl::string_view address,
                                                        const ServerMetrics& metrics);
  ~Exposer();

  // HOST:PORT with the port that is really listened on.
  const std::string& address() const { return address_; }
  int port() const { return port_; }

 private:
  Exposer(std::unique_ptr<prometheus::Exposer> exposer, std::string address, int port);

  std::unique_ptr<prometheus::Exposer> exposer_;
  const std::string address_;
  const int port_;
};

}  // namespace sluice::metrics
