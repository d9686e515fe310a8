#include "scheduler/step_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "scheduler/block_table.h"

namespace sluice::scheduler {

void PrintTo(const StepPlan& plan, std::ostream* out) {
  *out << "preempt " << plan.num_preempted << ", admit " << plan.num_admitted << ", run";
  for (const PlannedSequence& s : plan.sequences) *out << " " << s.index << ":" << s.num_tokens;
}

namespace {

// A stream in mid-block, which needs no block for its next token.
constexpr RunningSequence kStream{
    .tokens_pending = 1, .tokens_computed = 20, .num_blocks = 2, .blocks_unshared = 2};

// A stream whose `blocks` blocks are full.
RunningSequence FullStream(int blocks, int unshared) {
  return {.tokens_pending = 1,
          .tokens_computed = blocks * 16,
          .num_blocks = blocks,
          .blocks_unshared = unshared};
}

// A sequence with more than one token pending, in `blocks` blocks that are full.
RunningSequence Prompt(int64_t pending, int blocks = 0) {
  return {.tokens_pending = pending,
          .tokens_computed = blocks * 16,
          .num_blocks = blocks,
          .blocks_unshared = blocks};
}

WaitingSequence Waiting(int64_t pending) { return {.tokens_pending = pending}; }

struct Row {
  std::string claim;
  std::vector<RunningSequence> running;
  std::vector<WaitingSequence> waiting;
  int available_blocks = 0;
  StepPlan plan;
  int total_blocks = 1000;
  PlanLimits limits = {.max_step_tokens = 8, .max_running_sequences = 4};
};

void ExpectPlans(const std::vector<Row>& table) {
  for (const Row& row : table) {
    const SchedulerState state{.running = row.running,
                               .waiting = row.waiting,
                               .available_blocks = row.available_blocks,
                               .total_blocks = row.total_blocks};
    EXPECT_EQ(Plan(state, row.limits), row.plan) << row.claim;
  }
}

TEST(StepPlannerTest, HandsOutTheBudget) {
  ExpectPlans({
      {"nothing to do", {}, {}, 10, {0, 0, {}}},
      {"one token for each stream",
       {kStream, kStream, kStream},
       {},
       9,
       {0, 0, {{0, 1}, {1, 1}, {2, 1}}}},
      {"streams keep their token beside an older long prompt",
       {Prompt(100), kStream, kStream},
       {},
       99,
       {0, 0, {{0, 6}, {1, 1}, {2, 1}}}},
      {"the last token of a prompt is served like a stream",
       {Prompt(1), Prompt(100)},
       {},
       99,
       {0, 0, {{0, 1}, {1, 7}}}},
      {"prompts share the budget in order of rank",
       {Prompt(5), Prompt(9)},
       {},
       99,
       {0, 0, {{0, 5}, {1, 3}}}},
      {"a later prompt waits while an earlier one takes the budget",
       {Prompt(9), Prompt(5)},
       {},
       99,
       {0, 0, {{0, 8}}}},
      {"what is computed anew is like a prompt",
       {Prompt(6), kStream, Prompt(40)},
       {Waiting(4)},
       99,
       {0, 0, {{0, 6}, {1, 1}, {2, 1}}}},
      {"prompts beyond 2^31 tokens are cut like others",
       {Prompt(int64_t{1} << 33)},
       {},
       99,
       {0, 0, {{0, 8}}}},
  });
}

TEST(StepPlannerTest, AdmitsWhatFits) {
  ExpectPlans({
      {"a short prompt is admitted and runs whole", {}, {Waiting(5)}, 1, {0, 1, {{0, 5}}}},
      {"a long prompt is cut to the budget", {}, {Waiting(100)}, 7, {0, 1, {{0, 8}}}, 7},
      {"what running prompts leave goes to newcomers",
       {Prompt(5)},
       {Waiting(9)},
       9,
       {0, 1, {{0, 5}, {1, 3}}}},
      {"no budget left: nobody is admitted", {Prompt(8)}, {Waiting(2)}, 9, {0, 0, {{0, 8}}}},
      {"streams and a newcomer",
       {kStream, kStream},
       {Waiting(20)},
       9,
       {0, 1, {{0, 1}, {1, 1}, {2, 6}}}},
      {"several are admitted while the budget lasts",
       {},
       {Waiting(3), Waiting(3), Waiting(3), Waiting(3)},
       9,
       {0, 3, {{0, 3}, {1, 3}, {2, 2}}}},
      {"all places taken: nobody is admitted",
       {kStream, kStream},
       {Waiting(1)},
       9,
       {0, 0, {{0, 1}, {1, 1}}},
       1000,
       {.max_step_tokens = 8, .max_running_sequences = 2}},
      {"admission ends at the last place",
       {kStream},
       {Waiting(1), Waiting(1)},
       9,
       {0, 1, {{0, 1}, {1, 1}}},
       1000,
       {.max_step_tokens = 8, .max_running_sequences = 2}},
      {"places are kept for the choices of a running prompt",
       {{.tokens_pending = 3, .places = 3}},
       {Waiting(1), Waiting(1)},
       9,
       {0, 1, {{0, 3}, {1, 1}}}},
      {"a request of three choices needs three places",
       {kStream, kStream},
       {{.tokens_pending = 1, .places = 3}, Waiting(1)},
       9,
       {0, 0, {{0, 1}, {1, 1}}}},
  });
}

TEST(StepPlannerTest, AdmitsWhereThereAreBlocks) {
  ExpectPlans({
      {"alone: all blocks may be taken", {}, {Waiting(32)}, 2, {0, 1, {{0, 8}}}},
      {"a block is kept for each that runs", {kStream}, {Waiting(32)}, 2, {0, 0, {{0, 1}}}},
      {"exactly enough", {kStream}, {Waiting(32)}, 3, {0, 1, {{0, 1}, {1, 7}}}},
      {"nobody passes the first that does not fit",
       {kStream},
       {Waiting(33), Waiting(2)},
       3,
       {0, 0, {{0, 1}}}},
      {"blocks given to one are gone for the next, and one more kept for it",
       {},
       {Waiting(3), Waiting(3), Waiting(2)},
       3,
       {0, 2, {{0, 3}, {1, 3}}}},
      {"blocks that a running prompt will take are not for others",
       {Prompt(7 + 16)},
       {Waiting(1)},
       3,
       {0, 0, {{0, 8}}}},
      {"but others may have those beside them",
       {Prompt(7)},
       {Waiting(1)},
       3,
       {0, 1, {{0, 7}, {1, 1}}}},
      {"cached blocks that others hold cost nothing",
       {kStream},
       {{.tokens_pending = 5, .cached_blocks = 40, .idle_blocks = 0}},
       2,
       {0, 1, {{0, 1}, {1, 5}}}},
      {"cached blocks that nobody holds are taken from what is available",
       {kStream},
       {{.tokens_pending = 5, .cached_blocks = 40, .idle_blocks = 1}},
       2,
       {0, 0, {{0, 1}}}},
      {"which is counted right",
       {kStream},
       {{.tokens_pending = 5, .cached_blocks = 40, .idle_blocks = 1}},
       3,
       {0, 1, {{0, 1}, {1, 5}}}},
  });
}

TEST(StepPlannerTest, PreemptsTheLastWhenBlocksRunOut) {
  ExpectPlans({
      {"a stream takes the last block", {FullStream(2, 2)}, {}, 1, {0, 0, {{0, 1}}}},
      {"the last gives its blocks to the first",
       {FullStream(2, 2), kStream},
       {},
       0,
       {1, 0, {{0, 1}}}},
      {"the last gives way itself", {kStream, FullStream(2, 2)}, {}, 0, {1, 0, {{0, 1}}}},
      {"only as many as need be",
       {FullStream(2, 2), kStream, kStream},
       {},
       0,
       {1, 0, {{0, 1}, {1, 1}}}},
      {"shared blocks help nobody",
       {FullStream(2, 2), kStream, FullStream(3, 0)},
       {},
       0,
       {2, 0, {{0, 1}}},
       10},
      {"what one gave serves several",
       {FullStream(2, 2), FullStream(2, 2), FullStream(2, 2)},
       {},
       0,
       {1, 0, {{0, 1}, {1, 1}}}},
      {"nobody is admitted when somebody gives way",
       {FullStream(2, 2), FullStream(9, 9)},
       {Waiting(1)},
       0,
       {1, 0, {{0, 1}}}},
      {"a prompt takes what is left, and preempts nobody for more",
       {Prompt(40, 2), kStream},
       {},
       1,
       {0, 0, {{0, 16}, {1, 1}}},
       1000,
       {.max_step_tokens = 64, .max_running_sequences = 4}},
      {"a prompt leaves the streams their blocks",
       {Prompt(40, 2), FullStream(2, 2)},
       {},
       2,
       {0, 0, {{0, 16}, {1, 1}}},
       1000,
       {.max_step_tokens = 64, .max_running_sequences = 4}},
      {"but it has its first before a later stream",
       {Prompt(40, 2), FullStream(2, 2)},
       {},
       1,
       {1, 0, {{0, 16}}},
       1000,
       {.max_step_tokens = 64, .max_running_sequences = 4}},
      {"alone it has every block",
       {Prompt(40, 2), FullStream(8, 0)},
       {},
       0,
       {1, 0, {{0, 40}}},
       10,
       {.max_step_tokens = 64, .max_running_sequences = 4}},
      {"a prompt without budget takes and preempts nothing",
       {Prompt(9, 1), Prompt(9, 1), kStream},
       {},
       1,
       {0, 0, {{0, 7}, {2, 1}}}},
  });
}

TEST(StepPlannerTest, HoldsPromptsToTheirLimitBesideStreams) {
  const auto limits = [](int max_prompt_tokens) {
    return PlanLimits{
        .max_step_tokens = 8, .max_running_sequences = 4, .max_prompt_tokens = max_prompt_tokens};
  };
  ExpectPlans({
      {"a prompt gets no more",
       {Prompt(100), kStream, kStream},
       {},
       99,
       {0, 0, {{0, 3}, {1, 1}, {2, 1}}},
       1000,
       limits(3)},
      {"prompts share it in order of rank",
       {Prompt(2), Prompt(9), kStream},
       {},
       99,
       {0, 0, {{0, 2}, {1, 1}, {2, 1}}},
       1000,
       limits(3)},
      {"and newcomers get what they leave",
       {kStream, Prompt(1), Prompt(2)},
       {Waiting(9)},
       99,
       {0, 1, {{0, 1}, {1, 1}, {2, 2}, {3, 1}}},
       1000,
       limits(3)},
      {"or nothing",
       {kStream, Prompt(3)},
       {Waiting(1)},
       99,
       {0, 0, {{0, 1}, {1, 3}}},
       1000,
       limits(3)},
      {"it does not hold without streams",
       {Prompt(2)},
       {Waiting(100)},
       99,
       {0, 1, {{0, 2}, {1, 6}}},
       1000,
       limits(3)},
      {"the step's own limit holds as well",
       {Prompt(100), kStream, kStream},
       {},
       99,
       {0, 0, {{0, 6}, {1, 1}, {2, 1}}},
       1000,
       limits(7)},
      {"without any, prompts keep their blocks and wait",
       {Prompt(100, 2), kStream},
       {Waiting(1)},
       0,
       {0, 0, {{1, 1}}},
       1000,
       limits(0)},
      {"unless that leaves nobody: then they have the step",
       {Prompt(100, 2), FullStream(2, 2)},
       {},
       0,
       {1, 0, {{0, 8}}},
       1000,
       limits(0)},
      {"several of them",
       {Prompt(5, 2), Prompt(5, 2), FullStream(2, 2)},
       {},
       0,
       {1, 0, {{0, 5}, {1, 3}}},
       1000,
       limits(0)},
  });
}

// Whatever the state is: limits hold, each sequence of the plan has something to do, blocks that
// are handed out are there, and something runs.
TEST(StepPlannerTest, NeverExceedsItsLimits) {
  std::mt19937 random(7);
  const auto below = [&](int n) { return static_cast<int>(random() % n); };
  int num_held = 0;
  for (int round = 0; round < 50'000; ++round) {
    PlanLimits limits;
    limits.max_running_sequences = 1 + below(6);
    limits.max_step_tokens = limits.max_running_sequences + below(70);
    if (below(4) > 0) limits.max_prompt_tokens = below(4) * below(20);
    std::vector<RunningSequence> running(below(limits.max_running_sequences + 1));
    std::vector<WaitingSequence> waiting(below(4));
    SchedulerState state;
    state.available_blocks = below(3) * below(5);
    state.total_blocks = state.available_blocks;
    for (RunningSequence& sequence : running) {
      sequence.tokens_computed = below(60);
      sequence.num_blocks = NumBlocksFor(sequence.tokens_computed);
      sequence.blocks_unshared = sequence.num_blocks;
      sequence.tokens_pending = below(2) == 0 ? 1 : 1 + below(60);
      state.total_blocks += sequence.num_blocks;
    }
    bool is_possible = state.total_blocks > 0;
    for (RunningSequence& sequence : running) {
      const int64_t room = int64_t{state.total_blocks} * 16 - sequence.tokens_computed;
      sequence.tokens_pending = std::min<int64_t>(sequence.tokens_pending, room);
      is_possible = is_possible && room > 0;
    }
    if (!is_possible) continue;
    for (WaitingSequence& sequence : waiting) sequence.tokens_pending = 1 + below(60);
    state.running = running;
    state.waiting = waiting;
    const StepPlan plan = Plan(state, limits);

    const int num_kept = static_cast<int>(running.size()) - plan.num_preempted;
    int blocks_left = state.available_blocks;
    for (size_t i = num_kept; i < running.size(); ++i) blocks_left += running[i].num_blocks;
    int num_tokens = 0;
    int num_prompt_tokens = 0;
    int num_streams = 0;
    int last_index = -1;
    for (const auto& [index, tokens] : plan.sequences) {
      ASSERT_GT(index, last_index);
      last_index = index;
      const bool is_running = index < static_cast<int>(running.size());
      ASSERT_TRUE(is_running ? index < num_kept
                             : index < static_cast<int>(running.size()) + plan.num_admitted);
      const RunningSequence sequence =
          is_running
              ? running[index]
              : RunningSequence{.tokens_pending = waiting[index - running.size()].tokens_pending};
      ASSERT_GE(tokens, 1);
      ASSERT_LE(tokens, sequence.tokens_pending);
      blocks_left -=
          std::max(0, NumBlocksFor(sequence.tokens_computed + tokens) - sequence.num_blocks);
      num_tokens += tokens;
      if (is_running && sequence.is_stream()) {
        ++num_streams;
      } else {
        num_prompt_tokens += tokens;
      }
    }
    ASSERT_GE(blocks_left, 0) << "in round " << round;
    ASSERT_LE(num_tokens, limits.max_step_tokens);
    if (num_streams > 0) {
      ASSERT_LE(num_prompt_tokens, limits.max_prompt_tokens) << "in round " << round;
      num_held += num_prompt_tokens == limits.max_prompt_tokens;
    }
    ASSERT_LE(num_kept + plan.num_admitted, limits.max_running_sequences);
    ASSERT_TRUE(plan.num_preempted == 0 || plan.num_admitted == 0);
    ASSERT_TRUE(running.empty() || !plan.sequences.empty()) << "in round " << round;
  }
  EXPECT_GT(num_held, 5'000);
}

TEST(StepPlannerTest, UsesTheMemoryOfAnOldPlanAndNothingElseOfIt) {
  const std::vector<RunningSequence> running = {kStream, kStream, kStream};
  const PlanLimits limits = {.max_step_tokens = 8, .max_running_sequences = 4};
  StepPlan old = Plan({.running = running, .available_blocks = 9}, limits);
  old.num_admitted = 7;
  old.num_preempted = 7;
  const PlannedSequence* const memory = old.sequences.data();
  const std::vector<RunningSequence> fewer = {Prompt(20), kStream};
  const StepPlan plan = Plan({.running = fewer, .available_blocks = 9}, limits, std::move(old));
  EXPECT_EQ(plan, (StepPlan{0, 0, {{0, 7}, {1, 1}}}));
  EXPECT_EQ(plan.sequences.data(), memory);
}

}  // namespace
}  // namespace sluice::scheduler
