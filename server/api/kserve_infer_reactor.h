// KserveInferReactor: one ModelInfer call, whose answer comes in one piece.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>
#include <string>

#include "api/api_context.h"
#include "api/kserve_request.h"
#include "api/live_request.h"
#include "base/mutex.h"

namespace sluice::api {

// Driven as GenerateReactor is: by Begin, the engine and gRPC, through Advance.
class KserveInferReactor final : public grpc::ServerUnaryReactor,
                                 public std::enable_shared_from_this<KserveInferReactor> {
 public:
  // Takes on a call. The reactor belongs to gRPC until OnDone, and beyond that to whoever is still
  // calling it.
  static grpc::ServerUnaryReactor* Start(ApiContext& api, grpc::CallbackServerContext& context,
                                         const grpc::ByteBuffer& request,
                                         grpc::ByteBuffer& response);

 private:
  KserveInferReactor(ApiContext& api, grpc::CallbackServerContext& context,
                     grpc::ByteBuffer& response);

  void OnCancel() override;
  void OnDone() override;

  void Begin(const grpc::ByteBuffer& bytes);
  // Takes over a request that was submitted or refused.
  void Continue(std::unique_ptr<LiveRequest> request, KserveReply reply);
  bool IsCancelled();
  void Advance();
  // Reads what there is; whether the call is to be finished now.
  bool Decide() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  ApiContext& api_;
  // Both are valid until Finish.
  grpc::CallbackServerContext& context_;
  grpc::ByteBuffer& response_;
  ArrivedCall call_;
  std::optional<ActiveCalls::Ticket> ticket_;
  // Keeps this alive for gRPC.
  std::shared_ptr<KserveInferReactor> self_;

  base::Mutex mutex_;
  // Null until it was submitted or refused. Nothing happens before.
  std::unique_ptr<LiveRequest> request_ ABSL_GUARDED_BY(mutex_);
  KserveReply reply_ ABSL_GUARDED_BY(mutex_);
  std::string text_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  // Finish was called.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sluice::api
