// The step planner decides what the next step runs: which sequences, with how many tokens each. It
// is a pure function: no clock, no locks, no engine.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace sluice::scheduler {

// A request that waits, as the planner sees it.
struct WaitingSequence {
  int64_t tokens_pending = 0;
  // All the blocks that it can come to need: it gets them on admission, so that no running
  // sequence ever runs out of blocks.
  int blocks_wanted = 0;
};

struct SchedulerState {
  // Of each running sequence, in order of arrival: how many tokens it knows and has not computed,
  // at least 1.
  absl::Span<const int64_t> running_pending;
  // In order of arrival.
  absl::Span<const WaitingSequence> waiting;
  int free_blocks = 0;
};

struct PlanLimits {
  int max_step_tokens = 0;
  int max_step_sequences = 0;
  int max_running_sequences = 0;
};

struct PlannedSequence {
  // Among the running sequences, to which the admitted ones have been appended.
  int index = 0;
  int num_tokens = 0;

  friend bool operator==(const PlannedSequence&, const PlannedSequence&) = default;
};

struct StepPlan {
  // So many of the waiting sequences, from the first on, become running ones.
  int num_admitted = 0;
  std::vector<PlannedSequence> sequences;

  friend bool operator==(const StepPlan&, const StepPlan&) = default;
};

// Hands out the budget of max_step_tokens:
//   1. one token to each running sequence that has no more than one pending, so that a long prompt
//      never holds up the streams of others;
//   2. to the other running sequences in order of arrival, each as much as it can take;
//   3. to waiting sequences in order of arrival, admitted while there are blocks, places and
//      budget. The first that does not fit ends the admission, so that smaller ones behind it do
//      not starve it.
// Whatever is pending is treated alike: a sequence whose tokens are to be computed anew (it gave up
// its blocks) is no different from a prompt.
//
// `storage` is a plan that is no longer needed; its memory is used again, so that planning
// allocates nothing once the plans have had their full size.
StepPlan Plan(const SchedulerState& state, const PlanLimits& limits, StepPlan storage = {});

}  // namespace sluice::scheduler
