// Sequence: a request's state in the engine, from the moment it leaves the inbox until it ends.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "model/model_runner.h"
#include "scheduler/admission_queue.h"
#include "scheduler/token_stream.h"

namespace sluice::scheduler {

// For the engine thread alone. Stays where it is made: steps point into it.
//
// There is no prefill phase and no decode phase: a sequence knows tokens (at first its prompt), of
// which it has computed some; when a step computes the last of them, one more is drawn and known.
//
//   tokens   | prompt ......................... | generated ...... |
//            | computed ............... | pending ............... |
//
// Events gather until DeliverEvents, so that the engine decides when a reader hears of them.
class Sequence {
 public:
  struct Times {
    absl::Time submitted;
    // Of the past only: InfinitePast until they have happened.
    absl::Time started = absl::InfinitePast();
    absl::Time first_token = absl::InfinitePast();
    absl::Time last_token = absl::InfinitePast();
  };

  explicit Sequence(Arrival arrival);
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  uint64_t number() const { return number_; }
  const std::string& id() const { return request_.id; }
  absl::Time deadline() const { return request_.deadline; }
  const Times& times() const { return times_; }
  int64_t num_generated() const { return num_known() - num_prompt_; }
  int64_t tokens_pending() const { return num_known() - tokens_computed_; }
  // FinishedEvent or FailedEvent is among its events.
  bool ended() const { return ended_; }

  // The blocks that the prompt and the longest answer take.
  int blocks_wanted() const;

  // Lets the sequence run, in blocks_wanted() blocks of its own.
  void Start(std::vector<model::BlockId> block_table, absl::Time now);

  // Gives its blocks back; none if it never started.
  std::vector<model::BlockId> ReleaseBlocks() { return std::exchange(block_table_, {}); }

  // The step that computes the next `num_tokens` of the pending tokens; valid until Accept.
  model::SequenceStep NextStep(int num_tokens) const;

  // Takes in the result of that step. Returns how many of its tokens were the prompt's.
  int Accept(int num_tokens, const model::SequenceResult& result, absl::Time now);

  // REQUIRES: !ended().
  void Fail(absl::Status status);

  // Puts the events gathered since the last time into the stream.
  void DeliverEvents();

 private:
  int64_t num_known() const { return static_cast<int64_t>(tokens_.size()); }
  absl::Span<const TokenId> PromptTargets(int num_tokens) const;
  void AddToken(const model::SequenceResult& result, absl::Time now);

  const uint64_t number_;
  const int64_t num_prompt_;
  std::vector<TokenId> tokens_;  // the prompt and what was generated
  const Request request_;        // its prompt has been moved into tokens_
  // Shared with the reader, who may lose interest first.
  const std::shared_ptr<TokenStream> stream_;
  int64_t tokens_computed_ = 0;
  std::vector<model::BlockId> block_table_;
  std::vector<model::TokenLogprob> prompt_logprobs_;
  Times times_;
  std::vector<StreamEvent> events_;
  bool ended_ = false;
};

}  // namespace sluice::scheduler
