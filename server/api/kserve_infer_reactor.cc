#include "api/kserve_infer_reactor.h"

#include <utility>

#include "api/reactor_support.h"
#include "api/status_mapping.h"
#include "api/text_thread.h"
#include "api/wire_message.h"
#include "base/status_macros.h"

namespace sluice::api {

grpc::ServerUnaryReactor* KserveInferReactor::Start(ApiContext& api,
                                                    grpc::CallbackServerContext& context,
                                                    const grpc::ByteBuffer& request,
                                                    grpc::ByteBuffer& response) {
  std::shared_ptr<KserveInferReactor> reactor(new KserveInferReactor(api, context, response));
  reactor->self_ = reactor;
  // What is refused for its caller is not even parsed.
  if (request.Length() <= kMaxInlineBytes || !reactor->call_.admission().ok()) {
    reactor->Begin(request);
  } else if (!api.text_thread.Run([reactor, request] { reactor->Begin(request); })) {
    auto refused = std::make_unique<LiveRequest>(api, reactor->call_);
    refused->Refuse(TextThreadFull());
    reactor->Continue(std::move(refused), {});
  }
  return reactor.get();
}

KserveInferReactor::KserveInferReactor(ApiContext& api, grpc::CallbackServerContext& context,
                                       grpc::ByteBuffer& response)
    : api_(api),
      context_(context),
      response_(response),
      call_(api, metrics::Method::kModelInfer, context),
      ticket_(std::in_place, api.active_calls) {}

void KserveInferReactor::Begin(const grpc::ByteBuffer& bytes) {
  auto request = std::make_unique<LiveRequest>(api_, call_);
  KserveReply reply;
  const auto parse = [&]() -> absl::StatusOr<v1::GenerateRequest> {
    ASSIGN_OR_RETURN(const auto wire, Parse<inference::ModelInferRequest>(bytes));
    ASSIGN_OR_RETURN(KserveRequest parsed, ParseKserve(wire, /*may_stream=*/false));
    reply = std::move(parsed.reply);
    return std::move(parsed.request);
  };
  if (IsCancelled()) {
    request->Refuse(LiveRequest::CancelledStatus(api_, call_.deadline()));
  } else {
    request->Submit(parse, [weak = weak_from_this()] {
      if (auto self = weak.lock()) {
        RunOnGrpcThread([self = std::move(self)] { self->Advance(); });
      }
    });
  }
  Continue(std::move(request), std::move(reply));
}

void KserveInferReactor::Continue(std::unique_ptr<LiveRequest> request, KserveReply reply) {
  {
    base::MutexLock lock(mutex_);
    request_ = std::move(request);
    reply_ = std::move(reply);
    text_ = std::move(reply_.prefix);
  }
  Advance();
}

bool KserveInferReactor::IsCancelled() {
  base::MutexLock lock(mutex_);
  return cancelled_;
}

void KserveInferReactor::OnCancel() {
  {
    base::MutexLock lock(mutex_);
    cancelled_ = true;
  }
  Advance();
}

void KserveInferReactor::OnDone() {
  ticket_.reset();
  // May delete this.
  const auto self = std::move(self_);
}

void KserveInferReactor::Advance() {
  const LiveRequest* request = nullptr;
  LiveRequest::Cancels cancels;
  grpc::Status status;
  bool finish = false;
  {
    base::MutexLock lock(mutex_);
    finish = Decide();
    request = request_.get();
    if (request_ != nullptr) cancels = request_->TakeCancels();
    if (finish) {
      finished_ = true;
      call_.Leave();
      request_->Record();
      AddRetryMetadata(*request_->end(), context_);
      status = ToGrpcStatus(*request_->end());
      if (status.ok()) response_ = Serialize(MakeResponse(reply_, text_));
    }
  }
  if (!cancels.empty()) request->CancelInEngine(cancels);
  if (finish) Finish(std::move(status));
}

bool KserveInferReactor::Decide() {
  if (request_ == nullptr || finished_) return false;
  if (cancelled_) request_->Abandon();
  for (const v1::GenerateResponse& message : request_->Read()) text_ += message.delta().text();
  return request_->end().has_value();
}

}  // namespace sluice::api
