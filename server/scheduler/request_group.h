// RequestGroup: a request in the engine, from the moment it leaves the inbox until it ends, with
// the sequences of its choices and the events for its reader.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "model/model_runner.h"
#include "scheduler/admission_queue.h"
#include "scheduler/rank.h"
#include "scheduler/sequence.h"
#include "scheduler/token_stream.h"

namespace sluice::scheduler {

// For the engine thread alone. Stays where it is made: its sequences point to it.
//
// The prompt is computed by one sequence, for whichever choice is the first that is wanted. When it
// draws its first token, it forks: each further choice gets a sequence of its own that shares the
// prompt's blocks.
//
// Events gather until DeliverEvents, so that the engine decides when a reader hears of them.
class RequestGroup {
 public:
  RequestGroup(Arrival arrival, Rank rank);
  RequestGroup(const RequestGroup&) = delete;
  RequestGroup& operator=(const RequestGroup&) = delete;

  // Its prompt is empty: the first sequence has it.
  const Request& request() const { return request_; }
  int64_t num_prompt() const { return num_prompt_; }
  const Rank& rank() const { return rank_; }
  absl::Time submitted_at() const { return submitted_at_; }
  // InfinitePast until it has happened: it was admitted; its prompt was computed.
  absl::Time started_at() const { return started_at_; }
  absl::Time first_token_at() const { return first_token_at_; }
  bool prompt_done() const { return first_token_at_ != absl::InfinitePast(); }
  // Of choices that have none yet.
  int num_unforked() const { return static_cast<int>(unforked_.size()); }
  // One sequence for each choice that is neither unforked nor was cancelled before. Those that
  // ended stay.
  absl::Span<const std::unique_ptr<Sequence>> sequences() const { return sequences_; }
  int64_t num_generated() const;
  bool is_running() const;
  // No choice is left.
  bool ended() const { return num_open_ == 0; }

  // Its first sequence runs; REQUIRES: this has not happened before.
  void Start(int64_t cached_tokens, absl::Time now);

  // Makes the sequences of the other choices, and returns them. REQUIRES: prompt_done().
  absl::Span<const std::unique_ptr<Sequence>> Fork(BlockManager& manager,
                                                   model::ModelRunner& runner);

  // The positions before `end` are computed or were found. Returns how many of them are the
  // prompt's and were not before.
  int64_t NotePosition(int64_t end);

  // Prompt log-probabilities come from position 0 on; those that are there already are dropped.
  void AddPromptLogprobs(int64_t first_position, absl::Span<const model::TokenLogprob> logprobs);
  int64_t num_prompt_logprobs() const { return static_cast<int64_t>(prompt_logprobs_.size()); }
  void AddToken(TokenEvent event, absl::Time now);
  void Finish(FinishedEvent event);

  // Ends all choices. REQUIRES: !ended().
  void Fail(absl::Status status);
  // Ends one choice without an event, if it has not ended.
  void EndChoice(int choice);

  // Puts the events gathered since the last time into the stream.
  void DeliverEvents();

 private:
  const int64_t num_prompt_;
  const Rank rank_;
  const absl::Time submitted_at_;
  // Shared with the reader, who may lose interest first.
  const std::shared_ptr<TokenStream> stream_;
  Request request_;
  absl::Time started_at_ = absl::InfinitePast();
  absl::Time first_token_at_ = absl::InfinitePast();
  int num_open_;
  std::vector<int> unforked_;
  int64_t positions_noted_ = 0;
  std::vector<model::TokenLogprob> prompt_logprobs_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<StreamEvent> events_;
};

}  // namespace sluice::scheduler
