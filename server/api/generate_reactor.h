// GenerateReactor: the state machine of one Generate call.
//
// Three parties drive it: Begin, the engine (through a TokenStream, whose call is passed on to a
// thread of gRPC's) and gRPC (write done, cancelled). Each sets its flags under the lock and then
// calls Advance, which decides under the lock what to do next and does it outside.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <optional>

#include "api/api_context.h"
#include "api/live_request.h"
#include "base/mutex.h"

namespace sluice::api {

class GenerateReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                              public std::enable_shared_from_this<GenerateReactor> {
 public:
  // Takes on a call. The reactor belongs to gRPC until OnDone, and beyond that to whoever is still
  // calling it.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(ApiContext& api,
                                                           grpc::CallbackServerContext& context,
                                                           const grpc::ByteBuffer& request);

 private:
  GenerateReactor(ApiContext& api, grpc::CallbackServerContext& context);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  // Parses the request and submits it to the engine; refuses it otherwise.
  void Begin(const grpc::ByteBuffer& bytes);
  // Takes over a request that was submitted or refused.
  void Continue(std::unique_ptr<LiveRequest> request);
  bool IsCancelled();
  void Advance();

  enum class Move { kNothing, kWrite, kWriteAndFinish, kFinish };
  Move Decide() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  ApiContext& api_;
  // Valid until Finish.
  grpc::CallbackServerContext& context_;
  ArrivedCall call_;
  std::optional<ActiveCalls::Ticket> ticket_;
  // Keeps this alive for gRPC.
  std::shared_ptr<GenerateReactor> self_;
  // The message in flight.
  grpc::ByteBuffer message_;

  base::Mutex mutex_;
  // Null until it was submitted or refused. Nothing happens before.
  std::unique_ptr<LiveRequest> request_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::GenerateResponse> outbox_ ABSL_GUARDED_BY(mutex_);
  // StartWrite was called, OnWriteDone not yet. No other write may be started.
  bool write_in_flight_ ABSL_GUARDED_BY(mutex_) = false;
  // The client is gone: nothing more is written.
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  // Finish or StartWriteAndFinish was called. Nothing may follow.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sluice::api
