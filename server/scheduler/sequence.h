// Sequence: the state of one choice in the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/token.h"
#include "model/model_runner.h"
#include "scheduler/block_manager.h"
#include "scheduler/block_table.h"
#include "scheduler/step_planner.h"

namespace sluice::scheduler {

class RequestGroup;

// For the engine thread alone. Stays where it is made: steps point into it.
//
// There is no prefill phase and no decode phase: a sequence knows tokens (at first its prompt), of
// which it has computed some; when a step computes the last of them, one more is drawn and known.
//
//   tokens   | prompt ......................... | generated ...... |
//            | computed ............... | pending ............... |
//
// It waits, holding no block, or runs; preempted, it waits with everything pending again.
class Sequence {
 public:
  // For choice 0 of `group`.
  Sequence(RequestGroup& group, std::vector<TokenId> prompt);
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  RequestGroup& group() const { return group_; }
  int choice() const { return choice_; }
  int64_t num_generated() const;
  int64_t tokens_pending() const { return num_known() - tokens_computed_; }
  // InfinitePast until there is one.
  absl::Time first_token_at() const { return first_token_at_; }
  absl::Time last_token_at() const { return last_token_at_; }
  bool ended() const { return ended_; }

  // Served before `other`.
  bool RanksBefore(const Sequence& other) const;

  // As the planner sees it: while it waits, while it runs. CountUnshared() is costly and seldom
  // needed, so the engine fills it in.
  WaitingSequence Waiting(const BlockManager& manager) const;
  RunningSequence Running() const;
  int CountUnshared(const BlockManager& manager) const { return table_.CountUnshared(manager); }

  bool is_running() const { return is_running_; }

  // Lets it run, in the blocks that hold its first tokens already; returns how many tokens these
  // are. At least the last token is computed anew, as are those whose log-probabilities are wanted.
  int64_t Start(BlockManager& manager);

  // Gets the blocks for the next `num_tokens` tokens.
  void Grow(BlockManager& manager, int num_tokens);

  // The step that computes them; valid until Accept.
  model::SequenceStep NextStep(int num_tokens) const;

  // Takes in the result of that step. Returns how many prompt tokens it computed for the first
  // time.
  int64_t Accept(int num_tokens, const model::SequenceResult& result, BlockManager& manager,
                 absl::Time now);

  // A sequence for another choice, which runs too and shares this one's blocks up to the prompt's
  // last token, which it computes itself: its first token is drawn there. REQUIRES: the prompt is
  // computed.
  std::unique_ptr<Sequence> Fork(int choice, BlockManager& manager,
                                 model::ModelRunner& runner) const;

  // From now on it is this choice. REQUIRES: it has generated nothing.
  void ComputeFor(int choice);

  // Gives its blocks back, and with them all that it has computed: it waits.
  void Release(BlockManager& manager);

  void End() { ended_ = true; }

 private:
  Sequence(RequestGroup& group, int choice, std::vector<TokenId> tokens);

  int64_t num_known() const { return static_cast<int64_t>(tokens_.size()); }
  absl::Span<const TokenId> CacheableTokens() const;
  absl::Span<const TokenId> PromptTargets(int num_tokens) const;
  void AddToken(const model::SequenceResult& result, absl::Time now);

  RequestGroup& group_;
  int choice_;
  model::SamplingParams sampling_;  // the request's, with the choice's seed
  std::vector<TokenId> tokens_;     // the prompt and what was generated
  int64_t tokens_computed_ = 0;
  BlockTable table_;
  absl::Time first_token_at_ = absl::InfinitePast();
  absl::Time last_token_at_ = absl::InfinitePast();
  bool is_running_ = false;
  bool ended_ = false;
};

}  // namespace sluice::scheduler
