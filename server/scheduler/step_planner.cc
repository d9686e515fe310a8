#include "scheduler/step_planner.h"

#include <algorithm>
#include <utility>

namespace sluice::scheduler {
namespace {

// A plan in the making, and what of the limits is left.
class PlanBuilder {
 public:
  PlanBuilder(const PlanLimits& limits, StepPlan storage)
      : plan_(std::move(storage)),
        tokens_left_(limits.max_step_tokens),
        sequences_left_(limits.max_step_sequences) {
    plan_.num_admitted = 0;
    plan_.sequences.clear();
  }

  bool HasRoom() const { return tokens_left_ > 0 && sequences_left_ > 0; }

  // REQUIRES: HasRoom().
  void HandOut(int index, int64_t tokens_pending) {
    const int num_tokens = static_cast<int>(std::min<int64_t>(tokens_pending, tokens_left_));
    plan_.sequences.push_back({.index = index, .num_tokens = num_tokens});
    tokens_left_ -= num_tokens;
    --sequences_left_;
  }

  void Admit(int index, int64_t tokens_pending) {
    ++plan_.num_admitted;
    HandOut(index, tokens_pending);
  }

  StepPlan Finish() && { return std::move(plan_); }

 private:
  StepPlan plan_;
  int tokens_left_;
  int sequences_left_;
};

}  // namespace

StepPlan Plan(const SchedulerState& state, const PlanLimits& limits, StepPlan storage) {
  PlanBuilder plan(limits, std::move(storage));
  const int num_running = static_cast<int>(state.running_pending.size());
  const auto serve_running = [&](auto&& wanted) {
    for (int i = 0; i < num_running && plan.HasRoom(); ++i) {
      if (wanted(state.running_pending[i])) plan.HandOut(i, state.running_pending[i]);
    }
  };
  serve_running([](int64_t pending) { return pending == 1; });
  serve_running([](int64_t pending) { return pending > 1; });

  int index = num_running;
  int free_blocks = state.free_blocks;
  for (const WaitingSequence& sequence : state.waiting) {
    const bool fits = plan.HasRoom() && index < limits.max_running_sequences &&
                      sequence.blocks_wanted <= free_blocks;
    if (!fits) break;
    plan.Admit(index++, sequence.tokens_pending);
    free_blocks -= sequence.blocks_wanted;
  }
  return std::move(plan).Finish();
}

}  // namespace sluice::scheduler
