// RequestCall: a call with one request for an answer, whatever it is called and however the answer
// is sent: has the request parsed, on the text thread if it is long, submits it, and ends once.
//
// Three parties drive it: Begin, the engine (through a TokenStream, whose call is passed on to a
// thread of gRPC's) and gRPC (a write is done, the call was cancelled). Each sets its flags under
// the lock and then calls Advance, which decides under the lock what to do next and does it
// outside.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api/api_context.h"
#include "api/arrived_call.h"
#include "api/live_request.h"
#include "api/reactor_support.h"
#include "api/status_mapping.h"
#include "api/text_thread.h"
#include "base/mutex.h"
#include "metrics/request_metrics.h"

namespace sluice::api {

// `Reactor` is gRPC's. A call belongs to gRPC until OnDone, and beyond that to whoever is still
// calling it.
template <typename Reactor>
class RequestCall : public Reactor, public std::enable_shared_from_this<RequestCall<Reactor>> {
 protected:
  // What is to be done with the message or the response that Decide has made.
  enum class Move { kNothing, kWrite, kWriteAndFinish, kFinish };

  RequestCall(ApiContext& api, metrics::Method method, grpc::CallbackServerContext& context)
      : api_(api),
        context_(context),
        call_(api, method, context),
        ticket_(std::in_place, api.active_calls) {}

  // Takes on `call`, which came with `request`.
  static Reactor* TakeOn(const std::shared_ptr<RequestCall>& call,
                         const grpc::ByteBuffer& request) {
    call->self_ = call;
    // What is refused for its caller is not even parsed.
    if (request.Length() <= kMaxInlineBytes || !call->call_.admission().ok()) {
      call->Begin(request);
    } else if (!call->api_.text_thread.Run([call, request] { call->Begin(request); })) {
      auto refused = std::make_unique<LiveRequest>(call->api_, call->call_);
      refused->Refuse(TextThreadFull());
      call->Continue(std::move(refused));
    }
    return call.get();
  }

  // Called once, before request_ is there, and not at all if the call is refused for something
  // else.
  virtual absl::StatusOr<v1::GenerateRequest> ParseRequest(const grpc::ByteBuffer& bytes) = 0;
  // Why the request was refused, as the call's protocol says it.
  virtual absl::Status Reword(absl::Status status) const { return status; }
  // REQUIRES: request_ is there; Finish was not called.
  virtual Move Decide() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // Does what Decide wants; `status` is the call's if it finishes.
  virtual void Do(Move move, grpc::Status status) = 0;

  void Advance() {
    Move move = Move::kNothing;
    const LiveRequest* request = nullptr;
    LiveRequest::Cancels cancels;
    grpc::Status status;
    {
      base::MutexLock lock(mutex_);
      request = request_.get();
      if (request == nullptr) return;
      if (!finished_) {
        if (cancelled_) request_->Abandon();
        move = Decide();
      }
      cancels = request_->TakeCancels();
      if (move == Move::kFinish || move == Move::kWriteAndFinish) {
        finished_ = true;
        call_.Leave();
        request_->Record();
        AddRetryMetadata(*request_->end(), context_);
        status = ToGrpcStatus(*request_->end());
      }
    }
    if (!cancels.empty()) request->CancelInEngine(cancels);
    if (move != Move::kNothing) Do(move, std::move(status));
  }

  base::Mutex mutex_;
  // Null until it was submitted or refused. Nothing happens before.
  std::unique_ptr<LiveRequest> request_ ABSL_GUARDED_BY(mutex_);
  // The client is gone: nothing more is written.
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;

 private:
  void OnCancel() override {
    {
      base::MutexLock lock(mutex_);
      cancelled_ = true;
    }
    Advance();
  }

  void OnDone() override {
    ticket_.reset();
    // May delete this.
    const auto self = std::move(self_);
  }

  // Parses the request and submits it to the engine; refuses it otherwise.
  void Begin(const grpc::ByteBuffer& bytes) {
    auto request = std::make_unique<LiveRequest>(api_, call_);
    if (IsCancelled()) {
      request->Refuse(LiveRequest::CancelledStatus(api_, call_.deadline()));
    } else {
      request->Submit([&] { return ParseRequest(bytes); },
                      [weak = this->weak_from_this()] {
                        if (auto self = weak.lock()) {
                          RunOnGrpcThread([self = std::move(self)] { self->Advance(); });
                        }
                      });
      request->RewordRefusal([this](absl::Status status) { return Reword(std::move(status)); });
    }
    Continue(std::move(request));
  }

  // Takes over a request that was submitted or refused.
  void Continue(std::unique_ptr<LiveRequest> request) {
    {
      base::MutexLock lock(mutex_);
      request_ = std::move(request);
    }
    Advance();
  }

  bool IsCancelled() {
    base::MutexLock lock(mutex_);
    return cancelled_;
  }

  ApiContext& api_;
  // Valid until Finish.
  grpc::CallbackServerContext& context_;
  ArrivedCall call_;
  std::optional<ActiveCalls::Ticket> ticket_;
  // Keeps this alive for gRPC.
  std::shared_ptr<RequestCall> self_;
  // Finish or StartWriteAndFinish was called. Nothing may follow.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sluice::api
