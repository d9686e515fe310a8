// GrpcServer: the ports. They open before the model is loaded, and carry sluice.v1.Generation,
// sluice.v1.Control, inference.GRPCInferenceService, grpc.health.v1 and server reflection.
#pragma once

#include <grpcpp/server.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "api/api_context.h"
#include "api/control_service.h"
#include "api/generation_service.h"
#include "api/kserve_service.h"
#include "api/tls_credentials.h"
#include "api/unix_socket.h"

namespace sluice::api {

// Where a server listens, and how it shows who it is.
struct GrpcPorts {
  // Each HOST:PORT, where port 0 picks a free one, or unix:/path.
  std::vector<std::string> addresses;
  // Permissions of Unix sockets, as chmod takes them.
  int socket_mode = 0660;
  // For all of them; null: no TLS. Outlives the server.
  TlsCredentials* tls = nullptr;
};

// What one gRPC server takes on at most; see docs/architecture.md.
struct GrpcLimits {
  // Longer messages are refused with RESOURCE_EXHAUSTED.
  int max_message_bytes = 4 * 1024 * 1024;
  // Calls with more metadata are refused with RESOURCE_EXHAUSTED.
  int max_metadata_bytes = 16 * 1024;
  // Calls on one connection at the same time; further ones wait at the client.
  int max_concurrent_streams = 1024;
  // Memory that gRPC may hold for all connections together; near it connections are slowed down,
  // at it calls are refused.
  size_t max_buffer_bytes = size_t{1} << 30;
  // A connection that is silent for this long is asked whether it is still there; without an answer
  // in time its calls are cancelled, and their requests freed.
  absl::Duration keepalive_time = absl::Seconds(30);
  absl::Duration keepalive_timeout = absl::Seconds(20);
};

// Used by one thread.
class GrpcServer {
 public:
  // Listens. UNAVAILABLE, naming flag and address, if that is not possible, also if another server
  // is there; a Unix socket that is left of a server that was killed is replaced. The health of ""
  // is SERVING at once, that of the services when SetReady says so. `api` must outlive this.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcPorts& ports,
                                                           const GrpcLimits& limits,
                                                           ApiContext& api);
  // Ends all calls at once, unless Shutdown was called.
  ~GrpcServer();

  // The addresses, with the ports that are really listened on and commas between them.
  const std::string& address() const { return address_; }

  // Whether the services' health is SERVING.
  void SetReady(bool ready);

  // Removes its Unix sockets: for a process that is about to end without Shutdown, which also does.
  // Any thread may call it.
  void RemoveSockets();

  // Closes the ports, waits for the calls that are under way, and ends those that are not done
  // after `timeout`.
  void Shutdown(absl::Duration timeout);

 private:
  explicit GrpcServer(ApiContext& api);

  std::vector<std::unique_ptr<SocketFile>> sockets_;
  GenerationService generation_;
  ControlService control_;
  KserveService kserve_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace sluice::api
