#include "scheduler/step_planner.h"

#include <algorithm>
#include <utility>

#include "scheduler/block_table.h"

namespace sluice::scheduler {
namespace {

// Blocks that it lacks for its next `num_tokens` tokens.
int Lacks(const RunningSequence& sequence, int64_t num_tokens) {
  return std::max(0, NumBlocksFor(sequence.tokens_computed + num_tokens) - sequence.num_blocks);
}

// A plan in the making, and what of the limits is left.
class PlanBuilder {
 public:
  PlanBuilder(const SchedulerState& state, const PlanLimits& limits, StepPlan storage)
      : state_(state),
        limits_(limits),
        plan_(std::move(storage)),
        num_kept_(static_cast<int>(state.running.size())),
        blocks_left_(state.available_blocks),
        prompt_budget_(limits.max_step_tokens) {
    plan_.num_preempted = 0;
    plan_.num_admitted = 0;
    plan_.sequences.clear();
    for (const RunningSequence& sequence : state.running) {
      if (!sequence.is_stream()) continue;
      --prompt_budget_;
      blocks_for_streams_ += Lacks(sequence, 1);
    }
    const bool has_streams = prompt_budget_ < limits.max_step_tokens;
    if (has_streams) prompt_budget_ = std::min(prompt_budget_, limits.max_prompt_tokens);
  }

  void ServeRunning() {
    for (int i = 0; i < num_kept_; ++i) {
      const RunningSequence& sequence = state_.running[i];
      if (sequence.is_stream()) {
        if (!Secure(i)) return;
        const int blocks = Lacks(sequence, 1);
        blocks_for_streams_ -= blocks;
        HandOut(i, 1, blocks);
      } else if (prompt_budget_ > 0) {
        if (!Secure(i)) return;
        HandOutPrompt(i);
      }
    }
  }

  // All that go on running are prompts that the limit for steps with streams held back.
  void ServePromptsIfAlone() {
    if (!plan_.sequences.empty()) return;
    prompt_budget_ = limits_.max_step_tokens;
    ServeRunning();
  }

  void AdmitWaiting() {
    if (plan_.num_preempted > 0) return;
    int places_left = limits_.max_running_sequences;
    // Blocks that will be taken for what is pending already, or kept so that each can go on.
    int blocks_promised = 0;
    for (const RunningSequence& sequence : state_.running) {
      places_left -= sequence.places;
      blocks_promised += Lacks(sequence, sequence.tokens_pending) + 1;
    }
    blocks_promised -= blocks_handed_out_;
    for (const WaitingSequence& sequence : state_.waiting) {
      const int64_t tokens_cached = int64_t{sequence.cached_blocks} * model::kKvBlockTokens;
      const int blocks =
          NumBlocksFor(tokens_cached + sequence.tokens_pending) - sequence.cached_blocks;
      const bool fits = prompt_budget_ > 0 && sequence.places <= places_left &&
                        blocks_promised + blocks + sequence.idle_blocks <= blocks_left_;
      if (!fits) return;
      const int num_tokens =
          static_cast<int>(std::min<int64_t>(sequence.tokens_pending, prompt_budget_));
      prompt_budget_ -= num_tokens;
      places_left -= sequence.places;
      blocks_left_ -= blocks + sequence.idle_blocks;
      ++blocks_promised;
      const int index = static_cast<int>(state_.running.size()) + plan_.num_admitted++;
      plan_.sequences.push_back({.index = index, .num_tokens = num_tokens});
    }
  }

  StepPlan Finish() && { return std::move(plan_); }

 private:
  // Preempts the last sequences until there is a block for one token more of `index`; false if that
  // is the last now and was preempted itself.
  bool Secure(int index) {
    const int lacks = Lacks(state_.running[index], 1);
    while (lacks > blocks_left_ && num_kept_ > 1) {
      PreemptLast();
      if (num_kept_ == index) return false;
    }
    return true;
  }

  void PreemptLast() {
    const RunningSequence& last = state_.running[--num_kept_];
    ++plan_.num_preempted;
    if (last.is_stream()) blocks_for_streams_ -= Lacks(last, 1);
    if (num_kept_ == 1) {
      // Blocks that only preempted sequences shared are available too.
      blocks_left_ = state_.total_blocks - state_.running[0].num_blocks - blocks_handed_out_;
    } else {
      blocks_left_ += last.blocks_unshared;
    }
  }

  // Of what blocks are left, those for streams that come later are not for a prompt.
  void HandOutPrompt(int index) {
    const RunningSequence& sequence = state_.running[index];
    const int first = Lacks(sequence, 1);
    const int more = std::max(0, blocks_left_ - first - blocks_for_streams_);
    const int64_t room = int64_t{sequence.num_blocks + first + more} * model::kKvBlockTokens -
                         sequence.tokens_computed;
    const int num_tokens =
        static_cast<int>(std::min({sequence.tokens_pending, int64_t{prompt_budget_}, room}));
    prompt_budget_ -= num_tokens;
    HandOut(index, num_tokens, Lacks(sequence, num_tokens));
  }

  void HandOut(int index, int num_tokens, int num_blocks) {
    plan_.sequences.push_back({.index = index, .num_tokens = num_tokens});
    blocks_left_ -= num_blocks;
    blocks_handed_out_ += num_blocks;
  }

  const SchedulerState& state_;
  const PlanLimits& limits_;
  StepPlan plan_;
  // The first so many of the running sequences go on running.
  int num_kept_;
  int blocks_left_;
  int blocks_handed_out_ = 0;
  // That the running streams not served yet lack.
  int blocks_for_streams_ = 0;
  // What the streams leave of the budget, and its limit, for the others.
  int prompt_budget_;
};

}  // namespace

StepPlan Plan(const SchedulerState& state, const PlanLimits& limits, StepPlan storage) {
  PlanBuilder plan(state, limits, std::move(storage));
  plan.ServeRunning();
  plan.ServePromptsIfAlone();
  plan.AdmitWaiting();
  return std::move(plan).Finish();
}

}  // namespace sluice::scheduler
