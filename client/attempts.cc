#include "client/attempts.h"

#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sluice::client {

absl::Status ToAbslStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

std::optional<absl::Duration> PushbackOf(const grpc::ClientContext& context,
                                         const grpc::Status& status) {
  const auto& metadata = context.GetServerTrailingMetadata();
  const auto pushback = metadata.find("grpc-retry-pushback-ms");
  if (pushback != metadata.end()) {
    int64_t milliseconds = 0;
    // What is no number means never, as in gRPC's own retries.
    if (!absl::SimpleAtoi(absl::string_view(pushback->second.data(), pushback->second.size()),
                          &milliseconds)) {
      return -absl::InfiniteDuration();
    }
    return absl::Milliseconds(milliseconds);
  }
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return std::nullopt;
  for (const auto& detail : details.details()) {
    google::rpc::RetryInfo info;
    if (detail.UnpackTo(&info)) {
      return absl::Seconds(info.retry_delay().seconds()) +
             absl::Nanoseconds(info.retry_delay().nanos());
    }
  }
  return std::nullopt;
}

Attempts::Attempts(const CallOptions& options)
    : options_(options),
      timer_(options.retry.timer == nullptr ? RetryTimer::System() : *options.retry.timer),
      start_(timer_.Now()) {}

Attempts::~Attempts() { Forget(); }

grpc::ClientContext& Attempts::Next() {
  Forget();
  ++number_;
  context_ = std::make_shared<grpc::ClientContext>();
  if (options_.timeout < absl::InfiniteDuration()) {
    const absl::Duration left = options_.timeout - (timer_.Now() - start_);
    context_->set_deadline(absl::ToChronoTime(absl::Now() + left));
  }
  Know([context = context_] { context->TryCancel(); });
  return *context_;
}

std::optional<absl::Duration> Attempts::DelayAfter(const grpc::Status& status, bool answered) {
  if (status.ok() || cancelled()) return std::nullopt;
  Attempt attempt{number_, static_cast<absl::StatusCode>(status.error_code()),
                  PushbackOf(*context_, status), answered, absl::InfiniteDuration()};
  if (options_.timeout < absl::InfiniteDuration()) {
    attempt.time_left = options_.timeout - (timer_.Now() - start_);
  }
  const auto delay = RetryDelay(options_.retry, attempt, timer_.Random());
  if (delay && options_.retry.on_retry) {
    options_.retry.on_retry({number_, ToAbslStatus(status), *delay});
  }
  return delay;
}

void Attempts::Wait(absl::Duration delay, std::function<void()> done) {
  Forget();
  // `done` may call Next, and even delete this, before Start returns: the cancellation is told
  // first, of a wait that may not be there yet.
  struct Pending {
    base::Mutex mutex;
    bool cancelled ABSL_GUARDED_BY(mutex) = false;
    std::shared_ptr<RetryTimer::Wait> wait ABSL_GUARDED_BY(mutex);
  };
  const auto pending = std::make_shared<Pending>();
  Know([pending] {
    std::shared_ptr<RetryTimer::Wait> wait;
    {
      base::MutexLock lock(pending->mutex);
      pending->cancelled = true;
      wait = pending->wait;
    }
    if (wait != nullptr) wait->Cancel();
  });
  const auto wait = timer_.Start(delay, std::move(done));
  bool cancelled = false;
  {
    base::MutexLock lock(pending->mutex);
    cancelled = pending->cancelled;
    pending->wait = wait;
  }
  if (cancelled) wait->Cancel();
}

bool Attempts::cancelled() const {
  return options_.cancellation != nullptr && options_.cancellation->cancelled();
}

void Attempts::Know(std::function<void()> end) {
  if (options_.cancellation != nullptr) known_as_ = options_.cancellation->Add(std::move(end));
}

void Attempts::Forget() {
  if (known_as_) options_.cancellation->Remove(*known_as_);
  known_as_.reset();
}

}  // namespace sluice::client
