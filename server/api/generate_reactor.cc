#include "api/generate_reactor.h"

#include <grpcpp/alarm.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/call_record.h"
#include "api/request_parser.h"
#include "api/status_mapping.h"
#include "api/wire_message.h"
#include "base/status_macros.h"

namespace sluice::api {
namespace {

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

void CountTooManyCalls(const ApiContext& api) {
  api.metrics.admission_rejections_total(metrics::RejectionReason::kTooManyCalls).Increment();
}

MadeUp MakeUp() {
  thread_local std::mt19937_64 random{[] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }()};
  return {absl::StrCat("request-", absl::Hex(random(), absl::kZeroPad16)), random()};
}

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerateReactor::Start(
    ApiContext& api, grpc::CallbackServerContext& context, const grpc::ByteBuffer& request) {
  std::shared_ptr<GenerateReactor> reactor(new GenerateReactor(api, context));
  reactor->self_ = reactor;
  if (request.Length() <= kMaxInlineBytes) {
    reactor->Begin(request);
  } else if (!api.text_thread.Run([reactor, request] { reactor->Begin(request); })) {
    CountTooManyCalls(api);
    {
      base::MutexLock lock(reactor->mutex_);
      reactor->begun_ = true;
      reactor->end_ = TextThreadFull();
    }
    reactor->Advance();
  }
  return reactor.get();
}

GenerateReactor::GenerateReactor(ApiContext& api, grpc::CallbackServerContext& context)
    : api_(api),
      context_(context),
      start_time_(api.clock.Now()),
      deadline_(DeadlineOf(context)),
      ticket_(std::in_place, api.active_calls) {}

void GenerateReactor::Begin(const grpc::ByteBuffer& bytes) {
  absl::Status status = Submit(bytes);
  {
    base::MutexLock lock(mutex_);
    begun_ = true;
    submitted_ = status.ok();
    if (!submitted_) end_ = std::move(status);
  }
  Advance();
}

absl::Status GenerateReactor::Submit(const grpc::ByteBuffer& bytes) {
  {
    base::MutexLock lock(mutex_);
    if (cancelled_) return CancelledStatus();
  }
  ASSIGN_OR_RETURN(model_, api_.slot.ForWork());
  if (api_.active_calls.Overfull()) {
    CountTooManyCalls(api_);
    return WithRetryDelay(absl::ResourceExhaustedError("too many answers are open or unread"),
                          model_->engine->RetryDelay());
  }
  ASSIGN_OR_RETURN(const auto wire, Parse<v1::GenerateRequest>(bytes));
  ASSIGN_OR_RETURN(ParsedRequest parsed, ParseGenerate(wire, model_->facts, MakeUp()));
  scheduler::Request& request = parsed.request;
  request.deadline = deadline_;
  request_id_ = request.id;
  prompt_tokens_ = static_cast<int>(request.prompt.size());
  stream_ = std::make_shared<scheduler::TokenStream>([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->OnReadable();
  });
  {
    base::MutexLock lock(mutex_);
    answer_.emplace(*model_->facts.tokenizer,
                    Answer::Options{.request_id = request.id,
                                    .prompt_tokens = prompt_tokens_,
                                    .stop_token_ids = request.stop_token_ids,
                                    .stop_strings = std::move(parsed.stop_strings),
                                    .skip_special_tokens = parsed.skip_special_tokens,
                                    .num_choices = request.num_choices,
                                    .min_tokens = request.min_tokens,
                                    .include_stop = parsed.include_stop,
                                    .echo = std::move(parsed.echo)});
  }
  absl::Status status = model_->engine->Submit(std::move(request), stream_);
  if (absl::IsResourceExhausted(status)) {
    return WithRetryDelay(std::move(status), model_->engine->RetryDelay());
  }
  if (absl::IsAlreadyExists(status)) {
    return absl::AlreadyExistsError(
        absl::StrCat("request_id: \"", request_id_, "\" waits or runs already"));
  }
  return status;
}

void GenerateReactor::OnReadable() {
  // An alarm that is overdue is the way onto a thread of gRPC's; one due now would wait for the
  // next millisecond. It is deleted by its own call, which is allowed: what runs is held by gRPC.
  auto* alarm = new grpc::Alarm;
  alarm->Set(std::chrono::system_clock::time_point(), [self = shared_from_this(), alarm](bool) {
    delete alarm;
    self->Advance();
  });
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
  Cancels cancels;
  grpc::Status status;
  {
    base::MutexLock lock(mutex_);
    move = Decide();
    cancels = TakeCancels();
    if (move == Move::kFinish || move == Move::kWriteAndFinish) {
      finished_ = true;
      Conclude();
      status = ToGrpcStatus(*end_);
    }
  }
  CancelInEngine(cancels);
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
  if (!begun_ || write_in_flight_ || finished_) return Move::kNothing;
  if (cancelled_) {
    // Even if the answer is complete by now: its end has not been sent.
    if (submitted_) end_ = CancelledStatus();
    return Move::kFinish;
  }
  if (!end_ && outbox_.empty()) Read();
  if (outbox_.empty()) return end_ ? Move::kFinish : Move::kNothing;
  message_ = Serialize(outbox_.front());
  outbox_.pop_front();
  if (outbox_.empty() && end_) return Move::kWriteAndFinish;
  write_in_flight_ = true;
  return Move::kWrite;
}

GenerateReactor::Cancels GenerateReactor::TakeCancels() {
  if (!submitted_ || cancelled_in_engine_ || finished_) return {};
  if (!cancelled_ && !end_) return {.choices = answer_->TakeStopped()};
  if (!answer_->engine_done()) Read();
  cancelled_in_engine_ = !answer_->engine_done();
  return {.request = cancelled_in_engine_};
}

// Whatever has ended by itself meanwhile is not found.
void GenerateReactor::CancelInEngine(const Cancels& cancels) {
  if (cancels.request) model_->engine->Cancel(request_id_, stream_.get()).IgnoreError();
  for (const int choice : cancels.choices) {
    model_->engine->Cancel(request_id_, stream_.get(), choice).IgnoreError();
  }
}

void GenerateReactor::Read() {
  auto messages = answer_->Consume(stream_->Take());
  std::move(messages.begin(), messages.end(), std::back_inserter(outbox_));
  if (!first_token_time_ && answer_->generated_tokens() > 0) first_token_time_ = api_.clock.Now();
  if (answer_->end()) end_ = answer_->end();
}

absl::Status GenerateReactor::CancelledStatus() const {
  if (api_.clock.Now() >= deadline_) {
    return absl::DeadlineExceededError("the call's deadline has passed");
  }
  return absl::CancelledError("the client has cancelled the call");
}

void GenerateReactor::Conclude() {
  if (submitted_) {
    RecordFinished(api_, {request_id_, prompt_tokens_, answer_->generated_tokens(), start_time_,
                          first_token_time_, answer_->reason(), *end_});
    return;
  }
  RecordRefused(api_, start_time_, request_id_, *end_);
  if (const auto delay = RetryDelayOf(*end_)) {
    // For gRPC clients, which read the first, and for Envoy, which reads the second.
    context_.AddTrailingMetadata("grpc-retry-pushback-ms",
                                 absl::StrCat(absl::ToInt64Milliseconds(*delay)));
    context_.AddTrailingMetadata(
        "retry-after", absl::StrCat(std::max<int64_t>(
                           1, absl::ToInt64Seconds(absl::Ceil(*delay, absl::Seconds(1))))));
  }
}

}  // namespace sluice::api
