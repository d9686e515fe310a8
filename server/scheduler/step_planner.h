// The step planner decides what the next step runs: which sequences, with how many tokens each, who
// is admitted and who gives up its blocks. It is a pure function: no clock, no locks, no engine.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/span.h"

namespace sluice::scheduler {

// A sequence that runs, as the planner sees it.
struct RunningSequence {
  // Known and not computed; at least 1.
  int64_t tokens_pending = 0;
  int64_t tokens_computed = 0;
  // That it holds: room for tokens_computed at least.
  int num_blocks = 0;
  // Of these, those that nobody else holds. Looked at only where blocks may run out: where fewer
  // are available than a step's tokens fill, and one more for each sequence.
  int blocks_unshared = 0;
  // Of PlanLimits::max_running_sequences: its own, and those kept for choices that will share its
  // prompt.
  int places = 1;

  // It generates: only its last token has to be computed.
  bool is_stream() const { return tokens_pending == 1; }
};

// A sequence that waits. It is admitted with what of it is cached.
struct WaitingSequence {
  int64_t tokens_pending = 0;  // but for those cached
  int cached_blocks = 0;
  int idle_blocks = 0;  // of these, those that nobody holds: they count as available
  int places = 1;
};

// Sequences are in order of rank, the one that is served first in front.
struct SchedulerState {
  absl::Span<const RunningSequence> running;
  // From the first that waits on, as many as could be admitted at most.
  absl::Span<const WaitingSequence> waiting;
  int available_blocks = 0;
  int total_blocks = 0;  // room for any sequence that is alone
};

// REQUIRES: max_running_sequences <= max_step_tokens, so that each that runs can have a token.
struct PlanLimits {
  int max_step_tokens = 0;
  int max_running_sequences = 0;
  // Of the tokens of a step with streams, those that are of no stream. At least 0.
  int max_prompt_tokens = std::numeric_limits<int>::max();
};

struct PlannedSequence {
  // Among the running sequences, behind which those admitted have been put.
  int index = 0;
  int num_tokens = 0;

  friend bool operator==(const PlannedSequence&, const PlannedSequence&) = default;
};

struct StepPlan {
  // So many of the running sequences, the last ones, give up their blocks and wait again. Then
  // nobody is admitted.
  int num_preempted = 0;
  // So many of the waiting sequences, the first ones, become running ones.
  int num_admitted = 0;
  std::vector<PlannedSequence> sequences;

  friend bool operator==(const StepPlan&, const StepPlan&) = default;
};

// Hands out the budget of max_step_tokens, and the blocks for what it hands out:
//   1. Each running sequence with one token pending gets it, so that a long prompt never holds up
//      the streams of others. If there is no block for it, the last running sequences are
//      preempted, itself if it is the last.
//   2. What of the budget is left, max_prompt_tokens at most, goes to the others that run, in order
//      of rank, each as much as it can take and the blocks that those of 1 leave allow. A block for
//      the first of its tokens is had as in 1.
//   3. Then waiting sequences are admitted, in order of rank, while there are budget, places and
//      blocks: for all that it has pending, beside what the running ones have pending and one block
//      more for each of these. The first that does not fit ends the admission, so that smaller ones
//      behind it do not starve it.
// A plan for any sequence at all runs some: the first running sequence can have the blocks of all
// others, and when none runs, all blocks are available to the first that waits. Should all streams
// have given way to prompts, then these are what runs, whatever max_prompt_tokens is.
//
// Whatever is pending is treated alike: a sequence whose tokens are to be computed anew (it was
// preempted) is no different from a prompt.
//
// `storage` is a plan that is no longer needed; its memory is used again, so that planning
// allocates nothing once the plans have had their full size.
StepPlan Plan(const SchedulerState& state, const PlanLimits& limits, StepPlan storage = {});

}  // namespace sluice::scheduler
