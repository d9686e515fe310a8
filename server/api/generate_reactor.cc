#include "api/generate_reactor.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "api/reactor_support.h"
#include "api/status_mapping.h"
#include "api/wire_message.h"

namespace sluice::api {

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerateReactor::Start(
    ApiContext& api, grpc::CallbackServerContext& context, const grpc::ByteBuffer& request) {
  std::shared_ptr<GenerateReactor> reactor(new GenerateReactor(api, context));
  reactor->self_ = reactor;
  // What is refused for its caller is not even parsed.
  if (request.Length() <= kMaxInlineBytes || !reactor->call_.admission().ok()) {
    reactor->Begin(request);
  } else if (!api.text_thread.Run([reactor, request] { reactor->Begin(request); })) {
    auto refused = std::make_unique<LiveRequest>(api, reactor->call_);
    refused->Refuse(TextThreadFull());
    reactor->Continue(std::move(refused));
  }
  return reactor.get();
}

GenerateReactor::GenerateReactor(ApiContext& api, grpc::CallbackServerContext& context)
    : api_(api),
      context_(context),
      call_(api, metrics::Method::kGenerate, context),
      ticket_(std::in_place, api.active_calls) {}

void GenerateReactor::Begin(const grpc::ByteBuffer& bytes) {
  auto request = std::make_unique<LiveRequest>(api_, call_);
  if (IsCancelled()) {
    request->Refuse(LiveRequest::CancelledStatus(api_, call_.deadline()));
  } else {
    request->Submit([&bytes] { return Parse<v1::GenerateRequest>(bytes); },
                    [weak = weak_from_this()] {
                      if (auto self = weak.lock()) {
                        RunOnGrpcThread([self = std::move(self)] { self->Advance(); });
                      }
                    });
  }
  Continue(std::move(request));
}

void GenerateReactor::Continue(std::unique_ptr<LiveRequest> request) {
  {
    base::MutexLock lock(mutex_);
    request_ = std::move(request);
  }
  Advance();
}

bool GenerateReactor::IsCancelled() {
  base::MutexLock lock(mutex_);
  return cancelled_;
}

void GenerateReactor::OnWriteDone(bool ok) {
  {
    base::MutexLock lock(mutex_);
    write_in_flight_ = false;
    if (!ok) cancelled_ = true;
  }
  Advance();
}

void GenerateReactor::OnCancel() {
  {
    base::MutexLock lock(mutex_);
    cancelled_ = true;
  }
  Advance();
}

void GenerateReactor::OnDone() {
  ticket_.reset();
  // May delete this.
  const auto self = std::move(self_);
}

void GenerateReactor::Advance() {
  Move move;
  const LiveRequest* request = nullptr;
  LiveRequest::Cancels cancels;
  grpc::Status status;
  {
    base::MutexLock lock(mutex_);
    move = Decide();
    request = request_.get();
    if (request_ != nullptr) cancels = request_->TakeCancels();
    if (move == Move::kFinish || move == Move::kWriteAndFinish) {
      finished_ = true;
      call_.Leave();
      request_->Record();
      AddRetryMetadata(*request_->end(), context_);
      status = ToGrpcStatus(*request_->end());
    }
  }
  if (!cancels.empty()) request->CancelInEngine(cancels);
  switch (move) {
    case Move::kNothing:
      return;
    case Move::kWrite:
      return StartWrite(&message_);
    case Move::kWriteAndFinish:
      return StartWriteAndFinish(&message_, grpc::WriteOptions(), std::move(status));
    case Move::kFinish:
      return Finish(std::move(status));
  }
}

GenerateReactor::Move GenerateReactor::Decide() {
  if (request_ == nullptr || finished_) return Move::kNothing;
  if (cancelled_) request_->Abandon();
  if (write_in_flight_) return Move::kNothing;
  if (cancelled_) return Move::kFinish;
  if (outbox_.empty()) {
    auto messages = request_->Read();
    std::move(messages.begin(), messages.end(), std::back_inserter(outbox_));
  }
  if (outbox_.empty()) return request_->end() ? Move::kFinish : Move::kNothing;
  message_ = Serialize(outbox_.front());
  outbox_.pop_front();
  if (outbox_.empty() && request_->end()) return Move::kWriteAndFinish;
  write_in_flight_ = true;
  return Move::kWrite;
}

}  // namespace sluice::api
