// Endpoint: everything that the metrics port serves: metrics, health, the experts' load as JSON,
// and the built-in page.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "metrics/server_metrics.h"
#include "web/http_server.h"

namespace sluice::web {

enum class Readiness { kLoading, kReady, kDraining };

// What is said of the server besides its metrics.
struct ServerState {
  Readiness readiness = Readiness::kLoading;
  // When the port was opened, which no two processes have in common, and how long ago that was by a
  // clock that nobody sets.
  absl::Time start;
  absl::Duration uptime;
};

// What a GET of `path` is answered. A pure function of what it is given; thread-safe.
HttpResponse Answer(absl::string_view path, const metrics::ServerMetrics& metrics,
                    const ServerState& state);

// Made and destroyed by one thread; serves, on threads of its own, until it is destroyed.
class Endpoint {
 public:
  // `address` as for HttpServer::Start. `metrics`, and what `readiness` looks at, must outlive the
  // endpoint; `readiness` is called from any thread.
  static absl::StatusOr<std::unique_ptr<Endpoint>> Start(absl::string_view address,
                                                         const metrics::ServerMetrics& metrics,
                                                         std::function<Readiness()> readiness);

  // HOST:PORT with the port that is really listened on.
  const std::string& address() const { return server_->address(); }
  int port() const { return server_->port(); }

 private:
  explicit Endpoint(std::unique_ptr<HttpServer> server) : server_(std::move(server)) {}

  std::unique_ptr<HttpServer> server_;
};

}  // namespace sluice::web
