#include "metrics/exposer.h"

#include <netdb.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <exception>
#include <future>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace sluice::metrics {
namespace {

// Scrapes that are answered at once; more wait for their turn.
constexpr int kNumThreads = 2;

// Connects to `address`, which is listened on, and goes away.
void Knock(absl::string_view address) {
  const size_t colon = address.rfind(':');
  std::string host(address.substr(0, colon));
  if (host.empty() || host == "localhost") host = "127.0.0.1";
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  const std::string port(address.substr(colon + 1));
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return;
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd >= 0) {
    // Failing is fine: then the listener is gone already, or wakes by itself.
    static_cast<void>(connect(fd, found->ai_addr, found->ai_addrlen));
    close(fd);
  }
  freeaddrinfo(found);
}

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

// The library's listening thread looks for the wish to stop every two seconds, or when somebody
// connects.
Exposer::~Exposer() {
  const std::future<void> stopped = std::async(std::launch::async, [this] { exposer_.reset(); });
  while (stopped.wait_for(std::chrono::milliseconds(5)) != std::future_status::ready) {
    Knock(address_);
  }
}

}  // namespace sluice::metrics
