// HttpServer: answers GET and HEAD over HTTP/1.1 with what a function returns. civetweb, whose
// threads and sockets it hides, is used nowhere else.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace sluice::web {

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  // Lines such as "Allow: GET, HEAD". Every answer has besides: Content-Type, Content-Length,
  // Cache-Control: no-store, X-Content-Type-Options: nosniff, Connection: close.
  std::vector<std::string> headers;
};

// Limits against clients that are slow or many: beyond each the connection is closed or waits.
struct HttpLimits {
  // Requests that are answered at once; each open connection takes one, until it is closed.
  int num_threads = 8;
  // Connections that wait for a thread; more wait in the kernel, which keeps as many again.
  int max_waiting_connections = 32;
  // Request line and headers.
  int max_head_bytes = 8192;
  // From the connection until the head is there; and in which some byte of the answer must leave.
  absl::Duration idle_timeout = absl::Seconds(5);
  // For the whole answer to leave.
  absl::Duration answer_timeout = absl::Seconds(30);
};

// Made and destroyed by one thread; serves, on threads of its own, until it is destroyed.
class HttpServer {
 public:
  // `path` has no query and is decoded. Called by several threads at the same time; must not throw.
  using Handler = std::function<HttpResponse(absl::string_view path)>;

  // Listens on `address`, HOST:PORT with an IP address ([...] around an IPv6 one) or "localhost" or
  // an empty host (all interfaces). Port 0 picks a free port. INVALID_ARGUMENT if the address is
  // malformed, UNAVAILABLE if it cannot be listened on; both name the address.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(absl::string_view address,
                                                           Handler handler,
                                                           const HttpLimits& limits = {});
  // Returns at once, whatever clients do: connections are cut off. Nobody else's sockets are
  // touched.
  ~HttpServer();

  // HOST:PORT with the port that is really listened on.
  const std::string& address() const { return address_; }
  int port() const { return port_; }

 private:
  struct State;

  explicit HttpServer(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
  const std::string address_;
  const int port_;
};

}  // namespace sluice::web
