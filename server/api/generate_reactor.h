// GenerateReactor: one Generate call, whose answer is a stream of messages.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <deque>

#include "api/request_call.h"

namespace sluice::api {

class GenerateReactor final : public RequestCall<grpc::ServerWriteReactor<grpc::ByteBuffer>> {
 public:
  // Takes on a call.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(ApiContext& api,
                                                           grpc::CallbackServerContext& context,
                                                           const grpc::ByteBuffer& request);

 private:
  GenerateReactor(ApiContext& api, grpc::CallbackServerContext& context);

  void OnWriteDone(bool ok) override;

  absl::StatusOr<v1::GenerateRequest> ParseRequest(const grpc::ByteBuffer& bytes) override;
  Move Decide() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(Move move, grpc::Status status) override;

  // The message in flight.
  grpc::ByteBuffer message_;
  std::deque<v1::GenerateResponse> outbox_ ABSL_GUARDED_BY(mutex_);
  // StartWrite was called, OnWriteDone not yet. No other write may be started.
  bool write_in_flight_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sluice::api
