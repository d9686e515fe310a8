#include "api/grpc_server.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "api/library_logs.h"
#include "api/stranger_guard.h"
#include "base/status_macros.h"
#include "grpc/health/v1/health.pb.h"

namespace sluice::api {
namespace {

// Threads of gRPC's synchronous services, of which reflection is the only one.
constexpr int kMaxSynchronousThreads = 8;
// Clients may ask whether we are there this often; gRPC's default of five minutes cuts off those
// that do.
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

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
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
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, limits.max_metadata_bytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(limits.keepalive_time));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(limits.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
}

void Guard(const Authenticator& authenticator, grpc::ServerBuilder& builder) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> guards;
  guards.push_back(std::make_unique<StrangerGuard>(
      authenticator,
      std::vector<std::string>{"grpc.health.v1.Health", v1::Generation::service_full_name(),
                               v1::Control::service_full_name(),
                               inference::GRPCInferenceService::service_full_name()}));
  builder.experimental().SetInterceptorCreators(std::move(guards));
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcPorts& ports,
                                                              const GrpcLimits& limits,
                                                              ApiContext& api) {
  InitOnce();
  std::unique_ptr<GrpcServer> server(new GrpcServer(api));
  grpc::ServerBuilder builder;
  Configure(limits, builder);
  if (api.authenticator != nullptr) Guard(*api.authenticator, builder);
  std::vector<int> bound(ports.addresses.size(), 0);
  for (size_t i = 0; i < ports.addresses.size(); ++i) {
    std::string address = ports.addresses[i];
    if (const std::string path = SocketPathOf(address); !path.empty()) {
      ASSIGN_OR_RETURN(auto socket, SocketFile::Create(path));
      address = socket->first_address();
      server->sockets_.push_back(std::move(socket));
    }
    builder.AddListeningPort(
        address, ports.tls != nullptr ? ports.tls->ForPort() : grpc::InsecureServerCredentials(),
        &bound[i]);
  }
  builder.RegisterService(&server->generation_);
  builder.RegisterService(&server->control_);
  builder.RegisterService(&server->kserve_);
  {
    const FileModeLimit mode(ports.socket_mode);
    server->server_ = builder.BuildAndStart();
  }
  std::vector<std::string> addresses;
  for (size_t i = 0; i < ports.addresses.size(); ++i) {
    const std::string& address = ports.addresses[i];
    if (bound[i] == 0) {
      return absl::UnavailableError(absl::StrCat(
          "--listen=", address, " cannot be listened on: the address is wrong or in use"));
    }
    addresses.push_back(SocketPathOf(address).empty()
                            ? absl::StrCat(address.substr(0, address.rfind(':')), ":", bound[i])
                            : address);
  }
  if (server->server_ == nullptr) return absl::UnavailableError("gRPC cannot be served");
  for (const auto& socket : server->sockets_) RETURN_IF_ERROR(socket->Publish());
  server->address_ = absl::StrJoin(addresses, ",");
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

void GrpcServer::RemoveSockets() {
  for (const auto& socket : sockets_) socket->Remove();
}

void GrpcServer::Shutdown(absl::Duration timeout) {
  if (server_ == nullptr) return;
  RemoveSockets();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + timeout));
  server_->Wait();
}

}  // namespace sluice::api
