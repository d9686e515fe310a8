#include "server/server.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "config/machine.h"
#include "config/version.h"
#include "kernels/kernel_set.h"

namespace sluice::server {
namespace {

// Long requests that wait for the thread that tokenizes them.
constexpr size_t kMaxWaitingTexts = 64;
// How soon new certificates and tokens are seen.
constexpr absl::Duration kFileWatchInterval = absl::Seconds(1);
// For the last messages to leave once every stream has its end. Part of how long a server takes
// beyond --drain_timeout, see docs/architecture.md.
constexpr absl::Duration kFarewellTime = absl::Seconds(2);

#if defined(__clang__)
constexpr char kCompiler[] = "clang " __clang_version__;
#else
constexpr char kCompiler[] = "g++ " __VERSION__;
#endif

// bf16 wherever there are kernels for it, unless the configuration says otherwise.
kernels::WeightFormat ChooseFormat(config::WeightsFormat wish) {
  switch (wish) {
    case config::WeightsFormat::kF32:
      return kernels::WeightFormat::kF32;
    case config::WeightsFormat::kBf16:
      return kernels::WeightFormat::kBf16;
    case config::WeightsFormat::kInt8:
      return kernels::WeightFormat::kInt8;
    case config::WeightsFormat::kInt4:
      return kernels::WeightFormat::kInt4;
    case config::WeightsFormat::kAuto:
      break;
  }
  return kernels::BestFormat();
}

// Of what is said about the kernels, what is in use or what was declined: a name that is in use
// then stays the same whatever else is said.
std::string KernelLines(const std::vector<std::string>& report, bool declined) {
  std::vector<absl::string_view> lines;
  for (const std::string& line : report) {
    if (absl::StrContains(line, " declined: ") == declined) lines.push_back(line);
  }
  return absl::StrJoin(lines, "; ");
}

// The demo model: where it is installed, or where it lies in the source tree.
std::string DemoModelFolder() {
  std::error_code error;
  const auto executable = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto installed =
      executable.parent_path().parent_path() / "share" / "sluice" / "models" / "demo";
  if (!error && std::filesystem::is_directory(installed, error)) return installed.string();
  return SLUICE_SOURCE_DIR "/models/demo";
}

web::Readiness ReadinessOf(api::ModelSlot::Phase phase) {
  switch (phase) {
    case api::ModelSlot::Phase::kLoading:
      return web::Readiness::kLoading;
    case api::ModelSlot::Phase::kReady:
      return web::Readiness::kReady;
    case api::ModelSlot::Phase::kDraining:
      break;
  }
  return web::Readiness::kDraining;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Create(const config::ServerConfig& config) {
  const kernels::WeightFormat weights = ChooseFormat(config.weights);
  ASSIGN_OR_RETURN(const kernels::KernelSet kernels, kernels::SelectKernels(weights));
  api::ServerFacts facts{
      .version = std::string(config::Version()),
      .start_time = absl::Now(),
      .num_threads = config.threads > 0 ? config.threads : config::UsablePhysicalCores(),
      .cpu = config::CpuName(),
      .isa = kernels.isa,
      .kernels = kernels.report};
  base::Log().info("sluice-server version={} cpu=\"{}\" isa={} threads={}", facts.version,
                   facts.cpu, facts.isa, facts.num_threads);
  std::unique_ptr<Server> server(new Server(config, weights, std::move(facts)));
  RETURN_IF_ERROR(server->OpenFiles());
  RETURN_IF_ERROR(server->Listen());
  server->LogTransport();
  return server;
}

Server::Server(const config::ServerConfig& config, kernels::WeightFormat weights,
               api::ServerFacts facts)
    : config_(config),
      weights_(weights),
      facts_(std::move(facts)),
      metrics_({.version = facts_.version,
                .compiler = kCompiler,
                .isa = facts_.isa,
                .kernels = KernelLines(facts_.kernels, /*declined=*/false),
                .declined = KernelLines(facts_.kernels, /*declined=*/true)}),
      active_calls_(config.max_active_requests),
      text_thread_(kMaxWaitingTexts),
      api_{facts_, base::Clock::System(), metrics_.requests(), slot_, active_calls_, text_thread_} {
}

Server::~Server() = default;

absl::Status Server::OpenFiles() {
  if (!config_.tls_cert.empty()) {
    ASSIGN_OR_RETURN(tls_, api::TlsCredentials::Load({.cert = config_.tls_cert,
                                                      .key = config_.tls_key,
                                                      .client_ca = config_.tls_client_ca}));
  }
  if (!config_.auth_tokens.empty()) {
    ASSIGN_OR_RETURN(authenticator_,
                     api::Authenticator::Load(config_.auth_tokens, base::Clock::System()));
  }
  if (config_.access_log != "off") {
    ASSIGN_OR_RETURN(access_log_,
                     api::AccessLog::Open(
                         {.file = config_.access_log,
                          .log_prompts = config_.log_prompts,
                          .dropped_lines = &metrics_.requests().access_log_dropped_lines_total}));
  }
  api_.authenticator = authenticator_.get();
  api_.access_log = access_log_.get();
  return absl::OkStatus();
}

absl::Status Server::Listen() {
  if (!config_.metrics_listen.empty()) {
    auto endpoint = web::Endpoint::Start(config_.metrics_listen, metrics_,
                                         [this] { return ReadinessOf(slot_.phase()); });
    if (!endpoint.ok()) {
      return absl::Status(endpoint.status().code(),
                          absl::StrCat("--metrics_listen: ", endpoint.status().message()));
    }
    web_ = *std::move(endpoint);
  }
  const api::GrpcPorts ports = {
      .addresses = config_.listen, .socket_mode = config_.socket_mode, .tls = tls_.get()};
  ASSIGN_OR_RETURN(grpc_, api::GrpcServer::Start(
                              ports,
                              {.max_message_bytes = config_.max_message_bytes,
                               .max_metadata_bytes = config_.max_metadata_bytes,
                               .max_concurrent_streams = config_.max_concurrent_streams,
                               .max_buffer_bytes = static_cast<size_t>(config_.grpc_memory_bytes),
                               .keepalive_time = config_.keepalive_time,
                               .keepalive_timeout = config_.keepalive_timeout},
                              api_));
  watcher_ = std::make_unique<api::FileWatcher>(kFileWatchInterval);
  if (tls_ != nullptr) {
    watcher_->Watch({config_.tls_cert, config_.tls_key, config_.tls_client_ca},
                    [tls = tls_] { tls->Reload(); });
  }
  if (authenticator_ != nullptr) {
    watcher_->Watch({config_.auth_tokens},
                    [authenticator = authenticator_] { authenticator->Reload(); });
  }
  base::Log().info("listening grpc={} metrics={}", grpc_->address(),
                   web_ == nullptr ? "off" : web_->address());
  return absl::OkStatus();
}

void Server::LogTransport() const {
  spdlog::logger& log = base::Log();
  log.info(
      "transport tls={} tokens={} max_message_bytes={} max_metadata_bytes={} "
      "max_concurrent_streams={} grpc_memory_bytes={} keepalive_time={} keepalive_timeout={} "
      "access_log={} log_prompts={}",
      tls_ == nullptr ? "off" : (config_.tls_client_ca.empty() ? "server" : "mutual"),
      authenticator_ == nullptr ? "off" : "on", config_.max_message_bytes,
      config_.max_metadata_bytes, config_.max_concurrent_streams, config_.grpc_memory_bytes,
      absl::FormatDuration(config_.keepalive_time), absl::FormatDuration(config_.keepalive_timeout),
      config_.access_log, config_.log_prompts);
  const bool on_network =
      std::any_of(config_.listen.begin(), config_.listen.end(),
                  [](const std::string& address) { return !absl::StartsWith(address, "unix:"); });
  if (authenticator_ != nullptr && tls_ == nullptr && on_network) {
    log.warn("tokens without TLS can be read by whoever sees the network; see --tls_cert");
  }
}

void Server::Reload() {
  watcher_->CallAll();
  if (access_log_ != nullptr) access_log_->Reopen();
}

absl::Status Server::Run() {
  const absl::Time start = absl::Now();
  ASSIGN_OR_RETURN(model_, LoadedModel::Load(
                               {.folder = config_.model.empty() ? DemoModelFolder() : config_.model,
                                .weights = weights_,
                                .num_threads = facts_.num_threads,
                                .config = config_,
                                .metrics = metrics_}));
  slot_.Publish(&model_->served());
  grpc_->SetReady(true);
  base::Log().info("ready model={} load_seconds={:.3f}", model_->served().facts.name,
                   absl::ToDoubleSeconds(absl::Now() - start));
  {
    base::MutexLock lock(mutex_);
    while (!stopping_) changed_.Wait(mutex_);
  }
  Drain();
  return absl::OkStatus();
}

bool Server::Stop() {
  if (slot_.phase() == api::ModelSlot::Phase::kLoading) return false;
  base::MutexLock lock(mutex_);
  stopping_ = true;
  changed_.NotifyAll();
  return true;
}

void Server::Drain() {
  base::Log().info("draining drain_timeout={}", absl::FormatDuration(config_.drain_timeout));
  slot_.Drain();
  grpc_->SetReady(false);
  const int left = active_calls_.WaitUntilNone(config_.drain_timeout);
  if (left > 0) base::Log().warn("ending {} requests that did not finish in time", left);
  model_->engine().Stop();
  const absl::Time last = absl::Now() + kFarewellTime;
  active_calls_.WaitUntilNone(kFarewellTime);
  grpc_->Shutdown(last - absl::Now());
  base::Log().info("stopped");
}

}  // namespace sluice::server
