#include "scheduler/step_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice::scheduler {

void PrintTo(const StepPlan& plan, std::ostream* out) {
  *out << "admit " << plan.num_admitted << ", run";
  for (const PlannedSequence& s : plan.sequences) *out << " " << s.index << ":" << s.num_tokens;
}

namespace {

struct Row {
  std::string claim;
  std::vector<int64_t> running;
  std::vector<WaitingSequence> waiting;
  int free_blocks = 0;
  StepPlan plan;
  PlanLimits limits = {.max_step_tokens = 8, .max_step_sequences = 4, .max_running_sequences = 4};
};

TEST(StepPlannerTest, PlansAsTheTableSays) {
  const Row table[] = {
      {"nothing to do", {}, {}, 10, {0, {}}},
      {"one token for each running stream", {1, 1, 1}, {}, 0, {0, {{0, 1}, {1, 1}, {2, 1}}}},
      {"a short prompt is admitted and runs whole", {}, {{5, 1}}, 1, {1, {{0, 5}}}},
      {"a long prompt is cut to the budget", {}, {{100, 7}}, 7, {1, {{0, 8}}}},
      {"streams come before an older long prompt",
       {100, 1, 1},
       {},
       0,
       {0, {{1, 1}, {2, 1}, {0, 6}}}},
      {"the last token of a prompt is served like a stream",
       {1, 100},
       {},
       0,
       {0, {{0, 1}, {1, 7}}}},
      {"prompts share the budget in order of arrival", {5, 9}, {}, 0, {0, {{0, 5}, {1, 3}}}},
      {"a younger prompt waits while an older one takes the budget", {9, 5}, {}, 0, {0, {{0, 8}}}},
      {"what running prompts leave goes to newcomers", {5}, {{9, 1}}, 1, {1, {{0, 5}, {1, 3}}}},
      {"no budget left: nobody is admitted", {8}, {{2, 1}}, 5, {0, {{0, 8}}}},
      {"streams and a newcomer", {1, 1}, {{20, 2}}, 2, {1, {{0, 1}, {1, 1}, {2, 6}}}},
      {"several are admitted while the budget lasts",
       {},
       {{3, 1}, {3, 1}, {3, 1}, {3, 1}},
       9,
       {3, {{0, 3}, {1, 3}, {2, 2}}}},
      {"not enough blocks: the first waits", {1}, {{2, 3}}, 2, {0, {{0, 1}}}},
      {"nobody passes the first that does not fit", {1}, {{2, 3}, {2, 1}}, 2, {0, {{0, 1}}}},
      {"blocks given to one are gone for the next",
       {1},
       {{2, 2}, {2, 2}},
       3,
       {1, {{0, 1}, {1, 2}}}},
      {"exactly enough blocks", {}, {{2, 2}, {2, 1}}, 3, {2, {{0, 2}, {1, 2}}}},
      {"all places taken: nobody is admitted",
       {1, 1},
       {{1, 1}},
       9,
       {0, {{0, 1}, {1, 1}}},
       {.max_step_tokens = 8, .max_step_sequences = 4, .max_running_sequences = 2}},
      {"admission ends at the last place",
       {1},
       {{1, 1}, {1, 1}},
       9,
       {1, {{0, 1}, {1, 1}}},
       {.max_step_tokens = 8, .max_step_sequences = 4, .max_running_sequences = 2}},
      {"no more sequences than a step may have",
       {1, 1, 1},
       {{1, 1}},
       9,
       {0, {{0, 1}, {1, 1}}},
       {.max_step_tokens = 8, .max_step_sequences = 2, .max_running_sequences = 9}},
      {"a sequence that computes its tokens anew is like a prompt",
       {6, 1, 40},
       {{4, 1}},
       9,
       {0, {{1, 1}, {0, 6}, {2, 1}}}},
      {"prompts beyond 2^31 tokens are cut like others", {int64_t{1} << 40}, {}, 0, {0, {{0, 8}}}},
  };
  for (const Row& row : table) {
    const SchedulerState state{
        .running_pending = row.running, .waiting = row.waiting, .free_blocks = row.free_blocks};
    EXPECT_EQ(Plan(state, row.limits), row.plan) << row.claim;
  }
}

TEST(StepPlannerTest, UsesTheMemoryOfAnOldPlanAndNothingElseOfIt) {
  const std::vector<int64_t> running = {1, 1, 1};
  const PlanLimits limits = {
      .max_step_tokens = 8, .max_step_sequences = 4, .max_running_sequences = 4};
  StepPlan old = Plan({.running_pending = running}, limits);
  old.num_admitted = 7;
  const PlannedSequence* const memory = old.sequences.data();
  const std::vector<int64_t> fewer = {20, 1};
  const StepPlan plan = Plan({.running_pending = fewer}, limits, std::move(old));
  EXPECT_EQ(plan, (StepPlan{0, {{1, 1}, {0, 7}}}));
  EXPECT_EQ(plan.sequences.data(), memory);
}

}  // namespace
}  // namespace sluice::scheduler
