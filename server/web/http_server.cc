#include "web/http_server.h"

#include <civetweb.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <future>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "web/listen_address.h"

namespace sluice::web {
namespace {

using Clock = std::chrono::steady_clock;

// Pieces of an answer between which the time is looked at. civetweb lets a reader have the idle
// timeout for each bit of such a piece that he takes.
constexpr size_t kPieceBytes = 4096;

std::string Head(const mg_connection* connection, const HttpResponse& response) {
  std::string head = absl::StrCat(
      "HTTP/1.1 ", response.status, " ", mg_get_response_code_text(connection, response.status),
      "\r\nContent-Type: ", response.content_type, "\r\nContent-Length: ", response.body.size(),
      "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
  for (const std::string& header : response.headers) absl::StrAppend(&head, header, "\r\n");
  absl::StrAppend(&head, "Connection: close\r\n\r\n");
  return head;
}

void Send(mg_connection* connection, const HttpResponse& response, bool with_body,
          absl::Duration timeout) {
  std::string bytes = Head(connection, response);
  if (with_body) bytes += response.body;
  const auto deadline = Clock::now() + absl::ToChronoNanoseconds(timeout);
  for (size_t sent = 0; sent < bytes.size() && Clock::now() < deadline;) {
    const size_t size = std::min(kPieceBytes, bytes.size() - sent);
    if (mg_write(connection, bytes.data() + sent, size) != static_cast<int>(size)) return;
    sent += size;
  }
}

}  // namespace

struct HttpServer::State {
  Handler handler;
  HttpLimits limits;
  ListenAddress listen;  // with the port that is really listened on
  mg_context* context = nullptr;

  base::Mutex mutex;
  std::string first_message ABSL_GUARDED_BY(mutex);  // of civetweb's log

  static State& Of(const mg_connection* connection) {
    return *static_cast<State*>(mg_get_user_context_data(connection));
  }

  // Answers everything, so civetweb itself never looks for files or scripts.
  static int OnRequest(mg_connection* connection) noexcept {
    State& state = Of(connection);
    const mg_request_info& request = *mg_get_request_info(connection);
    const absl::string_view method = request.request_method;
    HttpResponse response;
    if (method != "GET" && method != "HEAD") {
      response = {.status = 405,
                  .body = "only GET and HEAD are understood\n",
                  .headers = {"Allow: GET, HEAD"}};
    } else {
      response = state.handler(request.local_uri == nullptr ? "" : request.local_uri);
    }
    Send(connection, response, method != "HEAD", state.limits.answer_timeout);
    // What else may come on this connection, such as a body, is not waited for.
    mg_disable_connection_keep_alive(connection);
    return response.status;
  }

  // What cannot be understood at all.
  static int OnError(mg_connection* connection, int status, const char* message) noexcept {
    Send(connection, {.status = status, .body = absl::StrCat(message, "\n")}, true,
         Of(connection).limits.answer_timeout);
    return 0;
  }

  static int OnMessage(const mg_connection* connection, const char* message) noexcept {
    base::Log().debug("http {}", message);
    State& state = Of(connection);
    base::MutexLock lock(state.mutex);
    if (state.first_message.empty()) state.first_message = message;
    return 1;
  }
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(absl::string_view address,
                                                              Handler handler,
                                                              const HttpLimits& limits) {
  static const unsigned features = mg_init_library(MG_FEATURES_DEFAULT);
  static_cast<void>(features);
  auto state = std::make_unique<State>();
  ASSIGN_OR_RETURN(state->listen, ListenAddress::Parse(address));
  if (absl::StartsWith(state->listen.host, "[") && mg_check_feature(MG_FEATURES_IPV6) == 0) {
    return absl::UnimplementedError(absl::StrCat(
        "cannot serve metrics on ", address,
        ": civetweb was built without IPv6 here, as Debian's is; take an IPv4 address"));
  }
  state->handler = std::move(handler);
  state->limits = limits;

  // civetweb takes "PORT" for all interfaces and knows no host names.
  const ListenAddress& listen = state->listen;
  const std::string host = listen.host == "localhost" ? "127.0.0.1" : listen.host;
  const std::string port =
      host.empty() ? absl::StrCat(listen.port) : absl::StrCat(host, ":", listen.port);
  const std::string idle_ms = absl::StrCat(absl::ToInt64Milliseconds(limits.idle_timeout));
  const std::string threads = absl::StrCat(limits.num_threads);
  const std::string waiting = absl::StrCat(limits.max_waiting_connections);
  const std::string head_bytes = absl::StrCat(limits.max_head_bytes);
  std::array<const char*, 17> options = {"listening_ports",
                                         port.c_str(),  //
                                         "num_threads",
                                         threads.c_str(),  //
                                         "connection_queue",
                                         waiting.c_str(),  //
                                         "listen_backlog",
                                         waiting.c_str(),  //
                                         "max_request_size",
                                         head_bytes.c_str(),
                                         "request_timeout_ms",
                                         idle_ms.c_str(),  //
                                         "enable_keep_alive",
                                         "no",  //
                                         "tcp_nodelay",
                                         "1",  //
                                         nullptr};
  mg_callbacks callbacks{};
  callbacks.begin_request = State::OnRequest;
  callbacks.http_error = State::OnError;
  callbacks.log_message = State::OnMessage;
  state->context = mg_start(&callbacks, state.get(), options.data());
  if (state->context == nullptr) {
    base::MutexLock lock(state->mutex);
    return absl::UnavailableError(absl::StrCat(
        "cannot serve metrics on ", address, ": is the port in use? (", state->first_message, ")"));
  }
  mg_server_port bound{};
  if (mg_get_server_ports(state->context, 1, &bound) < 1) {
    mg_stop(state->context);
    return absl::UnavailableError(absl::StrCat("cannot serve metrics on ", address));
  }
  state->listen.port = bound.port;
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::unique_ptr<State> state)
    : state_(std::move(state)),
      address_(absl::StrCat(state_->listen.host, ":", state_->listen.port)),
      port_(state_->listen.port) {}

// civetweb's threads look for the wish to stop every two seconds, or when something happens to the
// sockets that they wait for, whose numbers it tells nobody.
HttpServer::~HttpServer() {
  const std::future<void> stopped =
      std::async(std::launch::async, [this] { mg_stop(state_->context); });
  while (stopped.wait_for(std::chrono::milliseconds(5)) != std::future_status::ready) {
    CutOff(state_->listen);
  }
}

}  // namespace sluice::web
