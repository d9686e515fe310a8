// Runs the unary methods: parse, check, answer, record.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <utility>

#include "absl/status/statusor.h"
#include "api/api_context.h"
#include "api/wire_message.h"
#include "metrics/request_metrics.h"

namespace sluice::api {

// Answers one call: bytes in, bytes out.
using UnaryHandler = std::function<absl::StatusOr<grpc::ByteBuffer>(const grpc::ByteBuffer&)>;

// Runs `handler` for a call, here or, if the request is long, on the text thread.
grpc::ServerUnaryReactor* RunUnary(ApiContext& api, metrics::Method method,
                                   grpc::CallbackServerContext& context,
                                   const grpc::ByteBuffer& request, grpc::ByteBuffer& response,
                                   UnaryHandler handler);

// A handler out of a function from one message to another. Any thread may run it.
template <typename Request, typename Function>
UnaryHandler Handler(Function function) {
  return [function = std::move(function)](
             const grpc::ByteBuffer& bytes) -> absl::StatusOr<grpc::ByteBuffer> {
    const absl::StatusOr<Request> request = Parse<Request>(bytes);
    if (!request.ok()) return request.status();
    const auto response = function(*request);
    if (!response.ok()) return response.status();
    return Serialize(*response);
  };
}

}  // namespace sluice::api
