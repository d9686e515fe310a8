#include "api/unary_call.h"

#include <memory>

#include "absl/status/status.h"
#include "api/arrived_call.h"
#include "api/call_record.h"
#include "api/reactor_support.h"
#include "api/status_mapping.h"

namespace sluice::api {

grpc::ServerUnaryReactor* RunUnary(ApiContext& api, metrics::Method method,
                                   grpc::CallbackServerContext& context,
                                   const grpc::ByteBuffer& request, grpc::ByteBuffer& response,
                                   UnaryHandler handler) {
  // Request, response and reactor are valid until Finish, also if the client goes away.
  grpc::ServerUnaryReactor* const reactor = context.DefaultReactor();
  const auto call = std::make_shared<ArrivedCall>(api, method, context);
  const auto finish = [&api, &context, call, reactor](const absl::Status& status) {
    call->Leave();
    RecordUnary(api, *call, status);
    AddRetryMetadata(status, context);
    reactor->Finish(ToGrpcStatus(status));
  };
  if (!call->admission().ok()) {
    finish(call->admission());
    return reactor;
  }
  const auto run = [&context, &request, &response, handler = std::move(handler), finish] {
    if (context.IsCancelled()) return finish(absl::CancelledError("the call was cancelled"));
    absl::StatusOr<grpc::ByteBuffer> result = handler(request);
    if (result.ok()) response = *std::move(result);
    finish(result.status());
  };
  if (request.Length() <= kMaxInlineBytes) {
    run();
  } else if (!api.text_thread.Run(run)) {
    finish(TextThreadFull());
  }
  return reactor;
}

}  // namespace sluice::api
