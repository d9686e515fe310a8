#include "web/endpoint.h"

#include <chrono>
#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "web/experts_json.h"
#include "web/page_files.h"

namespace sluice::web {
namespace {

// Nothing from elsewhere, nothing inline, in nobody's frame.
constexpr char kPagePolicy[] =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'";
constexpr char kNoReferrer[] = "Referrer-Policy: no-referrer";

const char* NameOf(Readiness readiness) {
  switch (readiness) {
    case Readiness::kLoading:
      return "loading";
    case Readiness::kReady:
      return "ready";
    case Readiness::kDraining:
      return "draining";
  }
  return "";
}

}  // namespace

HttpResponse Answer(absl::string_view path, const metrics::ServerMetrics& metrics,
                    const ServerState& state) {
  if (path == "/metrics") {
    return {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics.Text()};
  }
  if (path == "/healthz") return {.body = "ok\n"};
  if (path == "/readyz") {
    return {.status = state.readiness == Readiness::kReady ? 200 : 503,
            .body = std::string(NameOf(state.readiness)) + "\n"};
  }
  if (path == "/experts.json") {
    return {.content_type = "application/json",
            .body = ExpertsJson(metrics, NameOf(state.readiness), state.start, state.uptime)};
  }
  for (const PageFile& file : PageFiles()) {
    if (path != file.path) continue;
    return {.content_type = std::string(file.content_type),
            .body = std::string(file.bytes),
            .headers = {kPagePolicy, kNoReferrer}};
  }
  return {.status = 404, .body = "not found\n"};
}

absl::StatusOr<std::unique_ptr<Endpoint>> Endpoint::Start(absl::string_view address,
                                                          const metrics::ServerMetrics& metrics,
                                                          std::function<Readiness()> readiness) {
  using Clock = std::chrono::steady_clock;
  ASSIGN_OR_RETURN(
      std::unique_ptr<HttpServer> server,
      HttpServer::Start(address, [&metrics, readiness = std::move(readiness), start = absl::Now(),
                                  start_of_uptime = Clock::now()](absl::string_view path) {
        return Answer(path, metrics,
                      {.readiness = readiness(),
                       .start = start,
                       .uptime = absl::FromChrono(Clock::now() - start_of_uptime)});
      }));
  return std::unique_ptr<Endpoint>(new Endpoint(std::move(server)));
}

}  // namespace sluice::web
