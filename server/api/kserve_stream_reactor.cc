#include "api/kserve_stream_reactor.h"

#include <algorithm>
#include <utility>

#include "api/reactor_support.h"
#include "api/status_mapping.h"
#include "api/text_thread.h"
#include "api/wire_message.h"
#include "base/status_macros.h"

namespace sluice::api {

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* KserveStreamReactor::Start(
    ApiContext& api, grpc::CallbackServerContext& context) {
  std::shared_ptr<KserveStreamReactor> reactor(new KserveStreamReactor(api, context));
  reactor->self_ = reactor;
  if (const absl::Status& admission = reactor->call_.admission(); !admission.ok()) {
    reactor->Refuse(admission, context);
  } else if (api.active_calls.TooManyStreams()) {
    api.metrics.admission_rejections_total(metrics::RejectionReason::kTooManyCalls).Increment();
    reactor->Refuse(TooManyStreams(), context);
  } else {
    reactor->StartRead(&reactor->incoming_);
  }
  return reactor.get();
}

KserveStreamReactor::KserveStreamReactor(ApiContext& api, grpc::CallbackServerContext& context)
    : api_(api),
      call_(api, metrics::Method::kModelStreamInfer, context, ArrivedCall::Places::kOfRequests),
      ticket_(std::in_place, api.active_calls) {}

void KserveStreamReactor::Refuse(const absl::Status& status, grpc::CallbackServerContext& context) {
  {
    base::MutexLock lock(mutex_);
    finished_ = true;
  }
  RecordRefused(api_, call_, call_.start_time(), "", status);
  AddRetryMetadata(status, context);
  Finish(ToGrpcStatus(status));
}

void KserveStreamReactor::OnReadDone(bool ok) {
  if (ok) {
    grpc::ByteBuffer bytes;
    bytes.Swap(&incoming_);
    const auto open = std::make_shared<Open>(api_.active_calls);
    {
      base::MutexLock lock(mutex_);
      open_.push_back(open);
    }
    if (bytes.Length() <= kMaxInlineBytes) {
      Begin(open, bytes);
    } else if (!api_.text_thread.Run([self = shared_from_this(), open, bytes] {
                 self->Begin(open, bytes);
                 self->Advance();
               })) {
      auto refused = std::make_unique<LiveRequest>(api_, call_, api_.clock.Now());
      refused->Refuse(TextThreadFull());
      Continue(*open, std::move(refused), {});
    }
  }
  {
    base::MutexLock lock(mutex_);
    read_in_flight_ = false;
    if (!ok) reads_done_ = true;
  }
  Advance();
}

void KserveStreamReactor::Begin(const std::shared_ptr<Open>& open, const grpc::ByteBuffer& bytes) {
  auto request = std::make_unique<LiveRequest>(api_, call_, api_.clock.Now());
  KserveReply reply;
  const auto parse = [&]() -> absl::StatusOr<v1::GenerateRequest> {
    ASSIGN_OR_RETURN(const auto wire, Parse<inference::ModelInferRequest>(bytes));
    reply = ReplyTo(wire);
    auto place = call_.AdmitRequest();
    if (absl::IsResourceExhausted(place.status())) {
      api_.metrics.admission_rejections_total(metrics::RejectionReason::kTokenLimit).Increment();
    }
    RETURN_IF_ERROR(place.status());
    if (place->has_value()) open->place.emplace(**std::move(place));
    ASSIGN_OR_RETURN(KserveRequest parsed, ParseKserve(wire, /*may_stream=*/true));
    reply = std::move(parsed.reply);
    return std::move(parsed.request);
  };
  bool cancelled;
  {
    base::MutexLock lock(mutex_);
    cancelled = cancelled_;
  }
  if (cancelled) {
    request->Refuse(LiveRequest::CancelledStatus(api_, call_.deadline()));
  } else {
    request->Submit(parse, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->OnReadable();
    });
    request->RewordRefusal(
        [&reply](absl::Status status) { return InKserveTerms(reply, std::move(status)); });
  }
  Continue(*open, std::move(request), std::move(reply));
}

void KserveStreamReactor::Continue(Open& open, std::unique_ptr<LiveRequest> request,
                                   KserveReply reply) {
  base::MutexLock lock(mutex_);
  open.request = std::move(request);
  open.reply = std::move(reply);
}

void KserveStreamReactor::OnReadable() {
  // A step brings tokens to all requests of the stream: one call is enough for them.
  if (bell_rung_.exchange(true)) return;
  RunOnGrpcThread([self = shared_from_this()] {
    self->bell_rung_ = false;
    self->Advance();
  });
}

void KserveStreamReactor::OnWriteDone(bool ok) {
  {
    base::MutexLock lock(mutex_);
    write_in_flight_ = false;
    if (!ok) cancelled_ = true;
    open_.remove_if([](const auto& open) { return open->answered; });
  }
  Advance();
}

void KserveStreamReactor::OnCancel() {
  {
    base::MutexLock lock(mutex_);
    cancelled_ = true;
  }
  Advance();
}

void KserveStreamReactor::OnDone() {
  ticket_.reset();
  // May delete this.
  const auto self = std::move(self_);
}

void KserveStreamReactor::Advance() {
  Moves moves;
  grpc::Status status;
  {
    base::MutexLock lock(mutex_);
    moves = Decide();
    if (moves.finish && cancelled_) {
      status = ToGrpcStatus(LiveRequest::CancelledStatus(api_, call_.deadline()));
    }
  }
  for (const auto& [open, cancels] : moves.cancels) open->request->CancelInEngine(cancels);
  // Finish comes alone, when nothing else is in flight.
  if (moves.write) StartWrite(&message_);
  if (moves.read) StartRead(&incoming_);
  if (moves.finish) {
    call_.Leave();
    Finish(std::move(status));
  }
}

KserveStreamReactor::Moves KserveStreamReactor::Decide() {
  Moves moves;
  if (finished_) return moves;
  if (!cancelled_ && !write_in_flight_ && NextMessage()) moves.write = write_in_flight_ = true;
  for (const auto& open : open_) {
    if (open->request == nullptr) continue;
    if (cancelled_ && !open->answered) open->request->Abandon();
    if (auto cancels = open->request->TakeCancels(); !cancels.empty())
      moves.cancels.emplace_back(open, std::move(cancels));
    if (cancelled_ && !open->answered) open->request->Record();
  }
  if (cancelled_) {
    open_.remove_if([](const auto& open) { return open->request != nullptr; });
  } else if (!read_in_flight_ && !reads_done_ && open_.size() < kMaxOpenRequests) {
    moves.read = read_in_flight_ = true;
  }
  if (open_.empty() && !read_in_flight_ && !write_in_flight_) {
    // A read that failed comes before the news that the client is gone; both end here.
    moves.finish = finished_ = true;
  }
  return moves;
}

bool KserveStreamReactor::NextMessage() {
  for (auto it = open_.begin(); it != open_.end(); ++it) {
    Open& open = **it;
    if (open.request == nullptr || open.answered) continue;
    const auto response = NextResponse(open);
    if (!response) continue;
    message_ = Serialize(*response);
    open_.splice(open_.end(), open_, it);
    return true;
  }
  return false;
}

std::optional<inference::ModelStreamInferResponse> KserveStreamReactor::NextResponse(Open& open) {
  for (const v1::GenerateResponse& message : open.request->Read()) {
    open.text += message.delta().text();
  }
  const KserveReply& reply = open.reply;
  const std::optional<absl::Status>& end = open.request->end();
  // The end comes by itself after an error, or if the client wants it so.
  const bool end_alone = end && (!end->ok() || reply.empty_final) && reply.stream;
  if (reply.stream && !open.text.empty() && (!end || end_alone)) {
    return MakeStreamResponse(reply, std::exchange(open.text, {}), /*final=*/false);
  }
  if (!end) return std::nullopt;
  open.answered = true;
  open.place.reset();
  open.request->Record();
  if (!end->ok()) return MakeStreamError(reply, *end);
  if (end_alone) return MakeStreamResponse(reply, std::nullopt, /*final=*/true);
  return MakeStreamResponse(reply, std::move(open.text), /*final=*/true);
}

}  // namespace sluice::api
