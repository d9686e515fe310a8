// GrpcServer: the port. It opens before the model is loaded, and carries sluice.v1.Generation,
// sluice.v1.Control, inference.GRPCInferenceService, grpc.health.v1 and server reflection.
#pragma once

#include <grpcpp/server.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "api/api_context.h"
#include "api/control_service.h"
#include "api/generation_service.h"
#include "api/kserve_service.h"

namespace sluice::api {

// What one gRPC server takes on at most; see docs/architecture.md.
struct GrpcLimits {
  // Longer messages are refused with RESOURCE_EXHAUSTED.
  int max_message_bytes = 4 * 1024 * 1024;
  // Calls on one connection at the same time; further ones wait at the client.
  int max_concurrent_streams = 1024;
  // Memory that gRPC may hold for all connections together; near it connections are slowed down,
  // at it calls are refused.
  size_t max_buffer_bytes = size_t{1} << 30;
};

// Used by one thread.
class GrpcServer {
 public:
  // Listens on `address`, HOST:PORT; port 0 picks a free one. UNAVAILABLE, naming the address, if
  // that is not possible, also if another server has the port. The health of "" is SERVING at once,
  // that of the services when SetReady says so. `api` must outlive this.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const std::string& address,
                                                           const GrpcLimits& limits,
                                                           ApiContext& api);
  // Ends all calls at once, unless Shutdown was called.
  ~GrpcServer();

  // HOST:PORT with the port that is really listened on.
  const std::string& address() const { return address_; }

  // Whether the services' health is SERVING.
  void SetReady(bool ready);

  // Closes the port, waits for the calls that are under way, and ends those that are not done after
  // `timeout`.
  void Shutdown(absl::Duration timeout);

 private:
  explicit GrpcServer(ApiContext& api);

  GenerationService generation_;
  ControlService control_;
  KserveService kserve_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace sluice::api
