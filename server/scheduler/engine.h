// The engine: continuous batching. It owns all sequences and the KV cache's blocks, and runs step
// after step while there is work; requests join and leave between steps.
#pragma once

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/engine_load.h"
#include "scheduler/engine_options.h"
#include "scheduler/request.h"
#include "scheduler/token_stream.h"

namespace sluice::scheduler {

// May be called from any thread. Submit, Cancel, Load and RetryDelay never block; everything else
// happens on the engine thread (EngineCore says what), which sleeps only when there is no work.
class Engine {
 public:
  using Options = EngineOptions;

  // REQUIRES: runner and metrics are set, the limits are at least 1, the runner has blocks.
  explicit Engine(const Options& options);
  // Stops, if that has not been done.
  ~Engine();

  // Starts the engine thread; requests submitted before wait for it. After Stop it does nothing.
  // REQUIRES: called once.
  void Start();

  // Hands `request` over; its events come out of `stream`. All or nothing, and at once; where a
  // field is at fault, the message begins with its name:
  //   INVALID_ARGUMENT    it can never run: no prompt; max_tokens or num_choices below 1; more
  //                       choices than run at once; min_tokens below 0 or above max_tokens; prompt
  //                       + max_tokens beyond the context or the KV cache
  //   ALREADY_EXISTS      its id waits or runs
  //   RESOURCE_EXHAUSTED  too many requests or prompt tokens wait, or, by what was measured, its
  //                       deadline will pass before its first token; the message says which, and
  //                       RetryDelay() when to come back. Counted in the metrics by reason.
  //   UNAVAILABLE         the engine drains or stops
  // An accepted request ends with exactly one FinishedEvent for each choice (none for a choice that
  // was cancelled), or with one FailedEvent. Then its blocks are free or cached, its id may be used
  // again, and Load() counts it no more.
  absl::Status Submit(Request request, std::shared_ptr<TokenStream> stream);

  // Ends a request with CANCELLED before the next step, unless the step that is running finishes
  // it. NOT_FOUND if it neither waits nor runs.
  // Given a stream, only the request whose events go there: an id may be used again.
  // Given a choice, only that one, without an event: at the latest from the next step on there are
  // none of this choice. The request ends with its last choice.
  absl::Status Cancel(absl::string_view id, const TokenStream* stream = nullptr,
                      std::optional<int> choice = std::nullopt);

  EngineLoad Load() const;

  // When a refused client should come back: the time in which the queue, at the rate at which
  // requests have been ending and prompts have been computed, gains a place. From 0.1 s (also when
  // nobody waits) to 60 s.
  absl::Duration RetryDelay() const;

  // From now on Submit says UNAVAILABLE; requests that wait or run go on to their ends.
  void Drain();

  // Ends every request with UNAVAILABLE once the step that is running is over, and waits for the
  // engine thread to end. Not to be called from a stream's on_readable.
  void Stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::scheduler
