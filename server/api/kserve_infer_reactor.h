// KserveInferReactor: one ModelInfer call, whose answer comes in one piece.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <string>

#include "api/kserve_request.h"
#include "api/request_call.h"

namespace sluice::api {

class KserveInferReactor final : public RequestCall<grpc::ServerUnaryReactor> {
 public:
  // Takes on a call.
  static grpc::ServerUnaryReactor* Start(ApiContext& api, grpc::CallbackServerContext& context,
                                         const grpc::ByteBuffer& request,
                                         grpc::ByteBuffer& response);

 private:
  KserveInferReactor(ApiContext& api, grpc::CallbackServerContext& context,
                     grpc::ByteBuffer& response);

  absl::StatusOr<v1::GenerateRequest> ParseRequest(const grpc::ByteBuffer& bytes) override;
  absl::Status Reword(absl::Status status) const override;
  Move Decide() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(Move move, grpc::Status status) override;

  // Valid until Finish.
  grpc::ByteBuffer& response_;
  // Constant once the request is there.
  KserveReply reply_;
  std::string text_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::api
