// StrangerGuard: asks for tokens on behalf of services that are not ours and do not ask themselves,
// such as reflection.
#pragma once

#include <grpcpp/support/server_interceptor.h>

#include <string>
#include <vector>

#include "api/authenticator.h"

namespace sluice::api {

// Ends calls without a known token with UNAUTHENTICATED, but not those of `open_services`: the
// health service, whose probes know no tokens, and our own, which see to it themselves (see
// ArrivedCall) and know of limits.
class StrangerGuard : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  // `authenticator` must outlive the server; names such as "sluice.v1.Control".
  StrangerGuard(const Authenticator& authenticator, const std::vector<std::string>& open_services);

  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override;

 private:
  const Authenticator& authenticator_;
  std::vector<std::string> open_prefixes_;
};

}  // namespace sluice::api
