// TokenStream: the way out of the engine. The engine thread puts the events of one request in, the
// request's reader takes them out when it is able to.
#pragma once

#include <functional>
#include <optional>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "base/token.h"
#include "model/model_runner.h"

namespace sluice::scheduler {

enum class FinishReason { kStopToken, kLength };

// The request left the queue: its prompt is being computed from here on.
struct StartedEvent {
  int cached_prompt_tokens = 0;
};

// The whole prompt's, if they were asked for; the first token has none, so there is one entry less
// than the prompt has tokens.
struct PromptLogprobsEvent {
  std::vector<model::TokenLogprob> logprobs;
};

struct TokenEvent {
  int choice = 0;
  TokenId token = 0;
  std::optional<model::TokenLogprob> logprob;
};

// An answer is complete; its last TokenEvent carried the stop token if that was the reason.
struct FinishedEvent {
  int choice = 0;
  FinishReason reason = FinishReason::kStopToken;
};

// The request ended, and with it every answer that was not complete: CANCELLED, DEADLINE_EXCEEDED
// or UNAVAILABLE.
struct FailedEvent {
  absl::Status status;
};

using StreamEvent =
    std::variant<StartedEvent, PromptLogprobsEvent, TokenEvent, FinishedEvent, FailedEvent>;

// Thread-safe. Holds at most num_choices * (max_tokens + 1) + 2 events, so the engine never waits
// for a slow reader.
//
//   StartedEvent? PromptLogprobsEvent? TokenEvent* (FinishedEvent | FailedEvent)
//
// with one FinishedEvent for each choice that was not cancelled by itself, TokenEvents of others in
// between, or else one FailedEvent at the end.
class TokenStream {
 public:
  // `on_readable` is called by the engine thread, never while a lock is held, when events come to
  // an empty stream: once for any number of events until the reader has taken them all. It must not
  // block. A reader that calls Take on its own account may be called and find nothing.
  explicit TokenStream(std::function<void()> on_readable);

  // Reader: takes everything that is there; empty if nothing is. Nothing comes after a FailedEvent
  // or the last choice's FinishedEvent.
  std::vector<StreamEvent> Take();

  // Engine: adds events.
  void Put(std::vector<StreamEvent> events);

 private:
  const std::function<void()> on_readable_;
  base::Mutex mutex_;
  std::vector<StreamEvent> events_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::scheduler
