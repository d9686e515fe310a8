// AdmissionQueue: the way into the engine. A bounded queue of requests that wait, the cancellation
// inbox, and, since only one lock keeps them in step with both, the ids in use, the EngineLoad and
// how fast the engine gets on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "scheduler/departure_rate.h"
#include "scheduler/engine_load.h"
#include "scheduler/engine_options.h"
#include "scheduler/prompt_rate.h"
#include "scheduler/request.h"
#include "scheduler/token_stream.h"

namespace sluice::scheduler {

// A request that was accepted.
struct Arrival {
  // In order of arrival, and never used again, as an id may be.
  uint64_t number = 0;
  Request request;
  std::shared_ptr<TokenStream> stream;
  absl::Time submitted_at;
};

struct Cancellation {
  uint64_t number = 0;
  // Nullopt: all of them.
  std::optional<int> choice;

  friend bool operator==(const Cancellation&, const Cancellation&) = default;
};

// What has come in since the last Drain. Apply the arrivals first: a cancellation is of one of
// them or of an older request (which may have ended meanwhile).
struct Inbox {
  std::vector<Arrival> arrivals;
  std::vector<Cancellation> cancelled;
};

class AdmissionQueue {
 public:
  // The range of RetryDelay.
  static constexpr absl::Duration kMinRetryDelay = absl::Milliseconds(100);
  static constexpr absl::Duration kMaxRetryDelay = absl::Seconds(60);

  // `clock` and `metrics` outlive the queue.
  AdmissionQueue(const EngineLimits& limits, const base::Clock& clock,
                 const metrics::EngineMetrics& metrics);

  // From any thread; as in Engine. Submit takes any request that the caller found fit to run.
  absl::Status Submit(Request request, std::shared_ptr<TokenStream> stream);
  absl::Status Cancel(absl::string_view id, const TokenStream* stream = nullptr,
                      std::optional<int> choice = std::nullopt);
  EngineLoad Load() const;
  absl::Duration RetryDelay() const;
  // From now on Submit says UNAVAILABLE.
  void Drain();
  // The same, and AwaitWork says that it is time to stop.
  void Close();

  // From the engine thread. Returns when the inbox has something, at once if `busy`; false when
  // the queue is closed.
  bool AwaitWork(bool busy);

  // Takes all that has come in.
  Inbox TakeInbox();

  // As in PromptRate.
  void NoteFullStep(int64_t num_prompt_tokens, absl::Duration duration);
  void NoteAdmitted(int64_t num_prompt_tokens, int64_t num_cached);

  // The engine's state after a change: `load`, in which the waiting requests are those that it took
  // and that do not run, and the ids of requests that ended. Returns the load with all that wait.
  EngineLoad Update(const EngineLoad& load, absl::Span<const absl::string_view> ended_ids);

 private:
  // A request that waits or runs.
  struct Live {
    uint64_t number = 0;
    const TokenStream* stream = nullptr;
    int num_choices = 1;
    bool cancelled = false;
    std::vector<int> cancelled_choices;
  };

  absl::Status CheckRoom(const Request& request, absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration EstimateWait(const Request& request) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const EngineLimits limits_;
  const base::Clock& clock_;
  const metrics::EngineMetrics& metrics_;

  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  Inbox inbox_ ABSL_GUARDED_BY(mutex_);
  // Counts the arrivals in the inbox, too, as waiting; inbox_prompt_tokens_ are theirs.
  EngineLoad load_ ABSL_GUARDED_BY(mutex_);
  int64_t inbox_prompt_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unordered_map<std::string, Live> live_ ABSL_GUARDED_BY(mutex_);
  DepartureRate departures_ ABSL_GUARDED_BY(mutex_);
  PromptRate prompts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::scheduler
