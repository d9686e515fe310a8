#include "api/live_request.h"

#include <random>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "api/request_parser.h"
#include "api/status_mapping.h"
#include "base/status_macros.h"

namespace sluice::api {
namespace {

MadeUp MakeUp() {
  thread_local std::mt19937_64 random{[] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }()};
  return {absl::StrCat("request-", absl::Hex(random(), absl::kZeroPad16)), random()};
}

// Whether the queue is full of requests. Submit is who decides; but what it would refuse whatever
// the prompt need not be tokenized before.
absl::Status CheckQueue(const ApiContext& api, const ServedModel& model) {
  const int waiting = model.engine->Load().waiting_requests;
  if (waiting < model.limits.max_waiting_requests) return absl::OkStatus();
  api.metrics.admission_rejections_total(metrics::RejectionReason::kQueueFull).Increment();
  return WithRetryDelay(
      absl::ResourceExhaustedError(absl::StrCat("the queue is full: ", waiting, " requests wait")),
      model.engine->RetryDelay());
}

void CountTooManyCalls(const ApiContext& api) {
  api.metrics.admission_rejections_total(metrics::RejectionReason::kTooManyCalls).Increment();
}

}  // namespace

void LiveRequest::Refuse(absl::Status status) {
  if (absl::IsResourceExhausted(status)) CountTooManyCalls(api_);
  end_ = std::move(status);
}

void LiveRequest::RewordRefusal(absl::FunctionRef<absl::Status(absl::Status)> reword) {
  if (!submitted_) end_ = reword(*std::move(end_));
}

void LiveRequest::Submit(absl::FunctionRef<absl::StatusOr<v1::GenerateRequest>()> make_request,
                         std::function<void()> on_readable) {
  absl::Status status = TrySubmit(make_request, std::move(on_readable));
  submitted_ = status.ok();
  if (!submitted_) end_ = std::move(status);
}

absl::Status LiveRequest::TrySubmit(
    absl::FunctionRef<absl::StatusOr<v1::GenerateRequest>()> make_request,
    std::function<void()> on_readable) {
  RETURN_IF_ERROR(call_.admission());
  ASSIGN_OR_RETURN(model_, api_.slot.ForWork());
  if (api_.active_calls.Overfull()) {
    CountTooManyCalls(api_);
    return WithRetryDelay(absl::ResourceExhaustedError("too many answers are open or unread"),
                          model_->engine->RetryDelay());
  }
  ASSIGN_OR_RETURN(const auto wire, make_request());
  RETURN_IF_ERROR(CheckQueue(api_, *model_));
  ASSIGN_OR_RETURN(ParsedRequest parsed, ParseGenerate(wire, model_->facts, MakeUp()));
  scheduler::Request& request = parsed.request;
  logged_texts_ = TextsToLog(api_, wire);
  request.deadline = call_.deadline();
  if (!model_->prefix_cache) request.bypass_prefix_cache = true;
  request_id_ = request.id;
  prompt_tokens_ = static_cast<int>(request.prompt.size());
  stream_ = std::make_shared<scheduler::TokenStream>(std::move(on_readable));
  answer_.emplace(*model_->facts.tokenizer,
                  Answer::Options{.request_id = request.id,
                                  .prompt_tokens = prompt_tokens_,
                                  .stop_token_ids = request.stop_token_ids,
                                  .stop_strings = std::move(parsed.stop_strings),
                                  .skip_special_tokens = parsed.skip_special_tokens,
                                  .num_choices = request.num_choices,
                                  .min_tokens = request.min_tokens,
                                  .include_stop = parsed.include_stop,
                                  .context = std::move(parsed.context),
                                  .echo = std::move(parsed.echo)});
  absl::Status status = model_->engine->Submit(std::move(request), stream_);
  if (absl::IsResourceExhausted(status)) {
    return WithRetryDelay(std::move(status), model_->engine->RetryDelay());
  }
  if (absl::IsInvalidArgument(status)) {
    // The engine's messages begin with the field's name.
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(status.message(), absl::MaxSplits(": ", 1));
    return FieldError(parts.first, parts.second);
  }
  if (absl::IsAlreadyExists(status)) {
    return absl::AlreadyExistsError(
        absl::StrCat("request_id: \"", request_id_, "\" waits or runs already"));
  }
  return status;
}

std::vector<v1::GenerateResponse> LiveRequest::Read() {
  if (end_) return {};
  std::vector<scheduler::StreamEvent> events = stream_->Take();
  for (const scheduler::StreamEvent& event : events) {
    if (const auto* started = std::get_if<scheduler::StartedEvent>(&event)) {
      admitted_time_ = api_.clock.Now();
      cached_prompt_tokens_ = started->cached_prompt_tokens;
    }
  }
  auto messages = answer_->Consume(std::move(events));
  if (logged_texts_) {
    for (const v1::GenerateResponse& message : messages) AddAnswer(message, *logged_texts_);
  }
  if (!first_token_time_ && answer_->generated_tokens() > 0) first_token_time_ = api_.clock.Now();
  if (answer_->end()) end_ = answer_->end();
  return messages;
}

void LiveRequest::Abandon() {
  if (submitted_) end_ = CancelledStatus(api_, call_.deadline());
}

LiveRequest::Cancels LiveRequest::TakeCancels() {
  if (!submitted_ || cancelled_in_engine_) return {};
  if (!end_) return {.choices = answer_->TakeStopped()};
  if (!answer_->engine_done()) answer_->Consume(stream_->Take());
  cancelled_in_engine_ = !answer_->engine_done();
  return {.request = cancelled_in_engine_};
}

// Whatever has ended by itself meanwhile is not found.
void LiveRequest::CancelInEngine(const Cancels& cancels) const {
  if (cancels.request) model_->engine->Cancel(request_id_, stream_.get()).IgnoreError();
  for (const int choice : cancels.choices) {
    model_->engine->Cancel(request_id_, stream_.get(), choice).IgnoreError();
  }
}

void LiveRequest::Record() {
  if (!submitted_) return RecordRefused(api_, call_, start_time_, request_id_, *end_);
  RecordFinished(api_, call_,
                 {.id = request_id_,
                  .prompt_tokens = prompt_tokens_,
                  .cached_prompt_tokens = cached_prompt_tokens_,
                  .generated_tokens = answer_->generated_tokens(),
                  .start_time = start_time_,
                  .admitted_time = admitted_time_,
                  .first_token_time = first_token_time_,
                  .reason = answer_->reason(),
                  .status = *end_,
                  .texts = std::move(logged_texts_)});
}

absl::Status LiveRequest::CancelledStatus(const ApiContext& api, absl::Time deadline) {
  if (api.clock.Now() >= deadline) {
    return absl::DeadlineExceededError("the call's deadline has passed");
  }
  return absl::CancelledError("the client has cancelled the call");
}

}  // namespace sluice::api
