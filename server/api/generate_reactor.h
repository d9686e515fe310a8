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
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "api/answer.h"
#include "api/api_context.h"
#include "base/mutex.h"
#include "scheduler/token_stream.h"

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
  absl::Status Submit(const grpc::ByteBuffer& bytes);

  // Called by the engine thread: has Advance called by a thread of gRPC's.
  void OnReadable();
  void Advance();

  enum class Move { kNothing, kWrite, kWriteAndFinish, kFinish };
  Move Decide() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Fills the outbox from the stream.
  void Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What the engine still does that nobody needs: all of it, for a client that is gone or has its
  // answer, or choices that a stop string ended. Each comes once.
  struct Cancels {
    bool request = false;
    std::vector<int> choices;
  };
  Cancels TakeCancels() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CancelInEngine(const Cancels& cancels);
  absl::Status CancelledStatus() const;
  // Metrics, log and, if the request was refused, trailing metadata: the last before Finish.
  void Conclude() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  ApiContext& api_;
  // Valid until Finish.
  grpc::CallbackServerContext& context_;
  const absl::Time start_time_;
  const absl::Time deadline_;
  std::optional<ActiveCalls::Ticket> ticket_;
  // Keeps this alive for gRPC.
  std::shared_ptr<GenerateReactor> self_;
  // The message in flight.
  grpc::ByteBuffer message_;
  // Set before the request is submitted, then constant.
  const ServedModel* model_ = nullptr;
  std::string request_id_;
  int prompt_tokens_ = 0;
  std::shared_ptr<scheduler::TokenStream> stream_;

  base::Mutex mutex_;
  std::optional<Answer> answer_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Time> first_token_time_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::GenerateResponse> outbox_ ABSL_GUARDED_BY(mutex_);
  // Begin is through: the request was submitted or refused. Nothing happens before.
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool submitted_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_in_engine_ ABSL_GUARDED_BY(mutex_) = false;
  // StartWrite was called, OnWriteDone not yet. No other write may be started.
  bool write_in_flight_ ABSL_GUARDED_BY(mutex_) = false;
  // The client is gone: nothing more is written.
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  // Finish or StartWriteAndFinish was called. Nothing may follow.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  // With what to finish: a refusal, or the answer's end.
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::api
