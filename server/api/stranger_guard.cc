#include "api/stranger_guard.h"

#include <grpc/grpc.h>
#include <grpcpp/server_context.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "api/arrived_call.h"

namespace sluice::api {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;

class Guard : public grpc::experimental::Interceptor {
 public:
  Guard(const Authenticator& authenticator, grpc::ServerContextBase& context)
      : authenticator_(authenticator), context_(context) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      const absl::Status status =
          authenticator_.Check(MetadataOf(context_, "authorization")).status();
      if (!status.ok()) {
        // The service then finds that the call is gone. gRPC's own way to do this says CANCELLED,
        // from which no client learns what is wrong.
        grpc_call_cancel_with_status(context_.c_call(), GRPC_STATUS_UNAUTHENTICATED,
                                     std::string(status.message()).c_str(), nullptr);
      }
    }
    methods->Proceed();
  }

 private:
  const Authenticator& authenticator_;
  grpc::ServerContextBase& context_;
};

}  // namespace

StrangerGuard::StrangerGuard(const Authenticator& authenticator,
                             const std::vector<std::string>& open_services)
    : authenticator_(authenticator) {
  for (const std::string& service : open_services) {
    open_prefixes_.push_back(absl::StrCat("/", service, "/"));
  }
}

grpc::experimental::Interceptor* StrangerGuard::CreateServerInterceptor(
    grpc::experimental::ServerRpcInfo* info) {
  for (const std::string& prefix : open_prefixes_) {
    if (absl::StartsWith(info->method(), prefix)) return nullptr;
  }
  return new Guard(authenticator_, *info->server_context());
}

}  // namespace sluice::api
