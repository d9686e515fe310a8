#include "scheduler/admission_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace sluice::scheduler {

AdmissionQueue::AdmissionQueue(int max_waiting_requests, const base::Clock& clock)
    : max_waiting_requests_(max_waiting_requests), clock_(clock) {}

absl::Status AdmissionQueue::Submit(Request request, std::shared_ptr<TokenStream> stream) {
  const absl::Time now = clock_.Now();
  {
    base::MutexLock lock(mutex_);
    if (closed_) return absl::UnavailableError("the engine is stopping");
    if (live_.find(request.id) != live_.end()) {
      return absl::AlreadyExistsError(
          absl::StrCat("id: a request with the id '", request.id, "' waits or runs already"));
    }
    if (load_.waiting_requests >= max_waiting_requests_) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the queue is full: ", load_.waiting_requests, " requests wait"));
    }
    if (live_.empty()) departures_.NoteBusy(now);
    const uint64_t number = next_number_++;
    live_.emplace(request.id, Live{.number = number, .stream = stream.get()});
    ++load_.waiting_requests;
    inbox_.arrivals.push_back({.number = number,
                               .request = std::move(request),
                               .stream = std::move(stream),
                               .submitted_at = now});
  }
  changed_.NotifyOne();
  return absl::OkStatus();
}

absl::Status AdmissionQueue::Cancel(absl::string_view id, const TokenStream* stream) {
  {
    base::MutexLock lock(mutex_);
    const auto live = live_.find(std::string(id));
    if (live == live_.end() || (stream != nullptr && live->second.stream != stream)) {
      return absl::NotFoundError(absl::StrCat("id: no request '", id, "' waits or runs"));
    }
    // At most one entry a request, so the inbox is bounded however often a client cancels.
    if (live->second.cancelled) return absl::OkStatus();
    live->second.cancelled = true;
    inbox_.cancelled.push_back(live->second.number);
  }
  changed_.NotifyOne();
  return absl::OkStatus();
}

EngineLoad AdmissionQueue::Load() const {
  base::MutexLock lock(mutex_);
  return load_;
}

absl::Duration AdmissionQueue::RetryDelay() const {
  const absl::Time now = clock_.Now();
  base::MutexLock lock(mutex_);
  if (load_.waiting_requests < max_waiting_requests_) return kMinRetryDelay;
  return std::clamp(departures_.MeanInterval(now), kMinRetryDelay, kMaxRetryDelay);
}

void AdmissionQueue::Close() {
  {
    base::MutexLock lock(mutex_);
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

Inbox AdmissionQueue::Drain() {
  base::MutexLock lock(mutex_);
  return std::exchange(inbox_, {});
}

EngineLoad AdmissionQueue::Update(const EngineLoad& load,
                                  absl::Span<const absl::string_view> ended_ids) {
  base::MutexLock lock(mutex_);
  load_ = load;
  load_.waiting_requests += static_cast<int>(inbox_.arrivals.size());
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
