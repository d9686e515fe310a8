#include "scheduler/admission_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace sluice::scheduler {
namespace {

// In whole milliseconds: "3.2s".
std::string Format(absl::Duration duration) {
  return absl::FormatDuration(absl::Trunc(duration, absl::Milliseconds(1)));
}

}  // namespace

AdmissionQueue::AdmissionQueue(const EngineLimits& limits, const base::Clock& clock,
                               const metrics::EngineMetrics& metrics)
    : limits_(limits), clock_(clock), metrics_(metrics) {}

absl::Status AdmissionQueue::Submit(Request request, std::shared_ptr<TokenStream> stream) {
  const absl::Time now = clock_.Now();
  {
    base::MutexLock lock(mutex_);
    if (draining_) return absl::UnavailableError("the engine is stopping");
    if (live_.find(request.id) != live_.end()) {
      return absl::AlreadyExistsError(
          absl::StrCat("id: a request with the id '", request.id, "' waits or runs already"));
    }
    if (absl::Status status = CheckRoom(request, now); !status.ok()) return status;
    if (live_.empty()) departures_.NoteBusy(now);
    const uint64_t number = next_number_++;
    live_.emplace(
        request.id,
        Live{.number = number, .stream = stream.get(), .num_choices = request.num_choices});
    const int64_t num_prompt = static_cast<int64_t>(request.prompt.size());
    ++load_.waiting_requests;
    load_.waiting_prompt_tokens += num_prompt;
    inbox_prompt_tokens_ += num_prompt;
    inbox_.arrivals.push_back({.number = number,
                               .request = std::move(request),
                               .stream = std::move(stream),
                               .submitted_at = now});
  }
  changed_.NotifyOne();
  return absl::OkStatus();
}

absl::Status AdmissionQueue::CheckRoom(const Request& request, absl::Time now) const {
  if (load_.waiting_requests >= limits_.max_waiting_requests) {
    metrics_.rejections_queue_full.Increment();
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", load_.waiting_requests, " requests wait"));
  }
  const int64_t num_prompt = static_cast<int64_t>(request.prompt.size());
  if (load_.waiting_requests > 0 &&
      load_.waiting_prompt_tokens + num_prompt > limits_.max_waiting_tokens) {
    metrics_.rejections_queue_tokens.Increment();
    return absl::ResourceExhaustedError(absl::StrCat("the queue is full: with this request ",
                                                     load_.waiting_prompt_tokens + num_prompt,
                                                     " prompt tokens would wait"));
  }
  const absl::Duration wait = EstimateWait(request);
  if (wait > absl::ZeroDuration() && now + wait > request.deadline && now < request.deadline) {
    metrics_.rejections_deadline.Increment();
    return absl::ResourceExhaustedError(
        absl::StrCat("the deadline cannot be met: it is in ", Format(request.deadline - now),
                     ", and the first token will take about ", Format(wait)));
  }
  return absl::OkStatus();
}

// Until the first token: until those that wait have got a place, and their prompts and its own are
// computed. Errs towards too little: nothing that was not measured counts, nor do blocks that may
// be short; a request of a higher priority may pass all that wait.
absl::Duration AdmissionQueue::EstimateWait(const Request& request) const {
  const bool may_pass = request.priority > 0;
  const int64_t num_prompt = static_cast<int64_t>(request.prompt.size());
  absl::Duration wait = prompts_.TimeFor(num_prompt + (may_pass ? 0 : load_.waiting_prompt_tokens))
                            .value_or(absl::ZeroDuration());
  const int must_end = load_.running_requests + (may_pass ? 0 : load_.waiting_requests) + 1 -
                       limits_.max_running_requests;
  if (must_end > 0 && departures_.is_measured()) {
    wait = std::max(wait, must_end * departures_.mean());
  }
  return wait;
}

absl::Status AdmissionQueue::Cancel(absl::string_view id, const TokenStream* stream,
                                    std::optional<int> choice) {
  {
    base::MutexLock lock(mutex_);
    const auto live = live_.find(std::string(id));
    if (live == live_.end() || (stream != nullptr && live->second.stream != stream)) {
      return absl::NotFoundError(absl::StrCat("id: no request '", id, "' waits or runs"));
    }
    Live& request = live->second;
    if (choice.has_value() && (*choice < 0 || *choice >= request.num_choices)) {
      return absl::NotFoundError(absl::StrCat("id: request '", id, "' has no choice ", *choice));
    }
    // At most one entry a request and a choice, so the inbox is bounded however often a client
    // cancels.
    if (request.cancelled) return absl::OkStatus();
    if (choice.has_value()) {
      std::vector<int>& choices = request.cancelled_choices;
      if (std::find(choices.begin(), choices.end(), *choice) != choices.end()) {
        return absl::OkStatus();
      }
      choices.push_back(*choice);
    } else {
      request.cancelled = true;
    }
    inbox_.cancelled.push_back({.number = request.number, .choice = choice});
  }
  changed_.NotifyOne();
  return absl::OkStatus();
}

EngineLoad AdmissionQueue::Load() const {
  base::MutexLock lock(mutex_);
  return load_;
}

// Until the first of those that wait leaves the queue.
absl::Duration AdmissionQueue::RetryDelay() const {
  const absl::Time now = clock_.Now();
  base::MutexLock lock(mutex_);
  if (load_.waiting_requests == 0) return kMinRetryDelay;
  const absl::Duration prompt =
      prompts_.TimeFor(load_.waiting_prompt_tokens / load_.waiting_requests)
          .value_or(absl::ZeroDuration());
  return std::clamp(std::max(departures_.MeanInterval(now), prompt), kMinRetryDelay,
                    kMaxRetryDelay);
}

void AdmissionQueue::Drain() {
  base::MutexLock lock(mutex_);
  draining_ = true;
}

void AdmissionQueue::Close() {
  {
    base::MutexLock lock(mutex_);
    draining_ = true;
    closed_ = true;
  }
  changed_.NotifyOne();
}

bool AdmissionQueue::AwaitWork(bool busy) {
  base::MutexLock lock(mutex_);
  while (!closed_ && !busy && inbox_.arrivals.empty() && inbox_.cancelled.empty()) {
    changed_.Wait(mutex_);
  }
  return !closed_;
}

Inbox AdmissionQueue::TakeInbox() {
  base::MutexLock lock(mutex_);
  inbox_prompt_tokens_ = 0;
  return std::exchange(inbox_, {});
}

void AdmissionQueue::NoteFullStep(int64_t num_prompt_tokens, absl::Duration duration) {
  base::MutexLock lock(mutex_);
  prompts_.NoteFullStep(num_prompt_tokens, duration);
}

void AdmissionQueue::NoteAdmitted(int64_t num_prompt_tokens, int64_t num_cached) {
  base::MutexLock lock(mutex_);
  prompts_.NoteAdmitted(num_prompt_tokens, num_cached);
}

EngineLoad AdmissionQueue::Update(const EngineLoad& load,
                                  absl::Span<const absl::string_view> ended_ids) {
  base::MutexLock lock(mutex_);
  load_ = load;
  load_.waiting_requests += static_cast<int>(inbox_.arrivals.size());
  load_.waiting_prompt_tokens += inbox_prompt_tokens_;
  for (const absl::string_view id : ended_ids) {
    const size_t num_erased = live_.erase(std::string(id));
    CHECK(num_erased == 1);
  }
  if (!ended_ids.empty()) {
    departures_.NoteEnded(static_cast<int>(ended_ids.size()), clock_.Now());
  }
  return load_;
}

}  // namespace sluice::scheduler
