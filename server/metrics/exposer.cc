#include "metrics/exposer.h"

#include <prometheus/exposer.h>

#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace sluice::metrics {
namespace {

// Scrapes that are answered at once; more wait for their turn.
constexpr int kNumThreads = 2;

}  // namespace

absl::StatusOr<std::unique_ptr<Exposer>> Exposer::Start(absl::string_view address,
                                                        const ServerMetrics& metrics) {
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port < 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("metrics address \"", address, "\" is not HOST:PORT"));
  }
  const absl::string_view host = address.substr(0, colon);
  // The HTTP server takes "PORT" for all interfaces and knows no host names.
  const std::string bind_host = host == "localhost" ? "127.0.0.1" : std::string(host);
  const std::string bind_address =
      bind_host.empty() ? absl::StrCat(port) : absl::StrCat(bind_host, ":", port);
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(bind_address, kNumThreads);
    exposer->RegisterCollectable(metrics.collectable());
    const std::vector<int> ports = exposer->GetListeningPorts();
    if (ports.empty()) {
      return absl::UnavailableError(absl::StrCat("cannot serve metrics on ", address));
    }
    return std::unique_ptr<Exposer>(
        new Exposer(std::move(exposer), absl::StrCat(host, ":", ports[0]), ports[0]));
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat("cannot serve metrics on ", address,
                                               ": is the port in use? (", error.what(), ")"));
  }
}

Exposer::Exposer(std::unique_ptr<prometheus::Exposer> exposer, std::string address, int port)
    : exposer_(std::move(exposer)), address_(std::move(address)), port_(port) {}

Exposer::~Exposer() = default;

}  // namespace sluice::metrics
