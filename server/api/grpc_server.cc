#include "api/grpc_server.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <mutex>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "api/library_logs.h"
#include "grpc/health/v1/health.pb.h"

namespace sluice::api {
namespace {

// Threads of gRPC's synchronous services, of which reflection is the only one.
constexpr int kMaxSynchronousThreads = 8;
// A connection that is silent for this long is asked whether it is still there; without an answer
// its calls are cancelled, and their requests freed.
constexpr int kKeepaliveTimeMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
// Clients may ask the same this often; gRPC's default of five minutes cuts off those that do.
constexpr int kMinPingIntervalMs = 5'000;

// What takes effect for the whole process.
void InitOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    RedirectLibraryLogs();
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    // Links the description of the health service, which gRPC serves without, for reflection.
    grpc::health::v1::HealthCheckRequest::descriptor();
  });
}

void Configure(const GrpcLimits& limits, grpc::ServerBuilder& builder) {
  grpc::ResourceQuota quota("sluice");
  quota.SetMaxThreads(kMaxSynchronousThreads);
  quota.Resize(limits.max_buffer_bytes);
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(limits.max_message_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.max_concurrent_streams);
  // Two servers on one port would share its connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const std::string& address,
                                                              const GrpcLimits& limits,
                                                              ApiContext& api) {
  InitOnce();
  std::unique_ptr<GrpcServer> server(new GrpcServer(api));
  grpc::ServerBuilder builder;
  Configure(limits, builder);
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&server->generation_);
  builder.RegisterService(&server->control_);
  builder.RegisterService(&server->kserve_);
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, " for gRPC: the address is wrong or in use"));
  }
  server->address_ = absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
  server->SetReady(false);
  return server;
}

GrpcServer::GrpcServer(ApiContext& api) : generation_(api), control_(api), kserve_(api) {}

GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

void GrpcServer::SetReady(bool ready) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  health->SetServingStatus(v1::Generation::service_full_name(), ready);
  health->SetServingStatus(v1::Control::service_full_name(), ready);
  health->SetServingStatus(inference::GRPCInferenceService::service_full_name(), ready);
}

void GrpcServer::Shutdown(absl::Duration timeout) {
  if (server_ == nullptr) return;
  server_->Shutdown(absl::ToChronoTime(absl::Now() + timeout));
  server_->Wait();
}

}  // namespace sluice::api
