#include "scheduler/step_pacer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace sluice::scheduler {
namespace {

// What a step takes, as a function of its streams and its prompt tokens.
using Cost = std::function<double(int streams, int prompt_tokens)>;

// A layer of 64 experts, of which each token needs 8 at random: reading those that are needed, and
// computing.
Cost SparseCost(double slower = 1) {
  return [slower](int streams, int prompt_tokens) {
    const int tokens = streams + prompt_tokens;
    const double experts = 64 * (1 - std::pow(1 - 8.0 / 64, tokens));
    return slower * (0.002 + 0.0006 * experts + 0.0005 * tokens);
  };
}

// A dense model: much time for the weights, little for each token.
double DenseCost(int streams, int prompt_tokens) {
  return 0.03 + 0.0002 * (streams + prompt_tokens);
}

// Each prompt token takes as long as several steps of streams.
double SlowPromptCost(int streams, int prompt_tokens) {
  return 0.01 + 0.0005 * streams + 0.05 * prompt_tokens;
}

struct Steps {
  std::vector<double> slowdowns;  // of the steps with prompt tokens
  int num_steps = 0;
  int num_without = 0;   // steps that prompts were left aside in
  int most_in_row = 0;   // such steps
  int least_tokens = 0;  // of the others
  int last_budget = 0;
};

// So many steps of as many streams and as much of prompts as the pacer allows.
Steps RunSteps(
    StepPacer& pacer, int num_steps, int streams, const Cost& cost,
    const std::function<double()>& noise = [] { return 1.0; }) {
  Steps run{.num_steps = num_steps, .least_tokens = 1 << 30};
  int in_row = 0;
  for (int i = 0; i < num_steps; ++i) {
    const int budget = pacer.MustMeasure(streams) ? 0 : pacer.PromptBudget(streams);
    const double seconds = cost(streams, budget) * noise();
    pacer.Observe({.num_streams = streams, .num_prompt_tokens = budget, .seconds = seconds});
    in_row = budget == 0 ? in_row + 1 : 0;
    run.most_in_row = std::max(run.most_in_row, in_row);
    if (budget == 0) {
      ++run.num_without;
    } else {
      run.slowdowns.push_back(seconds / cost(streams, 0));
      run.least_tokens = std::min(run.least_tokens, budget);
    }
    run.last_budget = pacer.PromptBudget(streams);
  }
  return run;
}

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

constexpr int kMaxTokens = 512;
constexpr double kSlowdown = 2.5;

TEST(StepPacerTest, KeepsStepsNearWhatTheyMayTake) {
  struct Row {
    std::string claim;
    int streams;
    Cost cost;
    double slowdown;
    // What is expected of the steps from the 100th on.
    double least;
    double most;
  };
  const Row table[] = {
      {"8 streams of a sparse model", 8, SparseCost(), 2.5, 2.4, 2.55},
      {"one stream, whose experts are few", 1, SparseCost(), 2.5, 1, 8.5},
      {"64 streams", 64, SparseCost(), 2.5, 2.4, 2.55},
      {"a small slowdown", 8, SparseCost(), 1.6, 1.5, 1.75},
      {"a large one", 8, SparseCost(), 5, 4.8, 5.1},
      {"a dense model", 8, DenseCost, 2.5, 2.4, 2.55},
      {"a slowdown that the step's own limit keeps below", 8, DenseCost, 10, 4, 5},
      {"a slower machine", 8, SparseCost(7), 2.5, 2.4, 2.55},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.claim);
    StepPacer pacer(row.slowdown, kMaxTokens);
    RunSteps(pacer, 100, row.streams, row.cost);
    const Steps run = RunSteps(pacer, 400, row.streams, row.cost);
    EXPECT_GE(Percentile(run.slowdowns, 0.01), row.least);
    EXPECT_LE(Percentile(run.slowdowns, 1), row.most);
    EXPECT_GE(run.least_tokens, StepPacer::kLeastTokens);
    // One in 17 is for the streams alone.
    EXPECT_LE(run.num_without, 400 / 17 + 1);
    EXPECT_GE(run.num_without, 400 / 17 - 1);
  }
}

TEST(StepPacerTest, PromptsAlwaysGetOn) {
  StepPacer pacer(kSlowdown, kMaxTokens);
  const Steps run = RunSteps(pacer, 200, 8, SlowPromptCost);
  EXPECT_EQ(run.least_tokens, StepPacer::kLeastTokens);
  EXPECT_EQ(run.last_budget, StepPacer::kLeastTokens);
  EXPECT_EQ(run.most_in_row, 1);
  EXPECT_LE(run.num_without, 200 / 5);
  // Nor when many streams come, whose time is not known at first.
  RunSteps(pacer, 100, 1, SlowPromptCost);
  const auto most = [&pacer](int num_steps) {
    int tokens = 0;
    for (int i = 0; i < num_steps; ++i) {
      tokens = std::max(tokens, RunSteps(pacer, 1, 64, SlowPromptCost).last_budget);
    }
    return tokens;
  };
  EXPECT_EQ(most(100), StepPacer::kLeastTokens);
  // A step that has fewer tokens than that gives prompts what there is.
  StepPacer small(kSlowdown, 4);
  EXPECT_EQ(small.PromptBudget(2), 4);
}

TEST(StepPacerTest, HoldsNobodyBackWithoutStreamsOrWithoutALimit) {
  StepPacer pacer(kSlowdown, kMaxTokens);
  EXPECT_EQ(pacer.PromptBudget(0), kMaxTokens);
  EXPECT_FALSE(pacer.MustMeasure(0));
  RunSteps(pacer, 50, 8, SlowPromptCost);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(pacer.PromptBudget(0), kMaxTokens);
    EXPECT_FALSE(pacer.MustMeasure(0));
    pacer.Observe({.num_streams = 0, .num_prompt_tokens = kMaxTokens, .seconds = 1});
  }
  StepPacer off(std::nullopt, kMaxTokens);
  const Steps run = RunSteps(off, 100, 8, SlowPromptCost);
  EXPECT_EQ(run.num_without, 0);
  EXPECT_EQ(run.least_tokens, kMaxTokens);
}

TEST(StepPacerTest, BeginsWithAStepOfStreamsAloneAndABlock) {
  StepPacer pacer(kSlowdown, kMaxTokens);
  EXPECT_TRUE(pacer.MustMeasure(8));
  EXPECT_EQ(pacer.PromptBudget(8), StepPacer::kLeastTokens);
  const Cost cost = SparseCost();
  pacer.Observe({.num_streams = 8, .num_prompt_tokens = 0, .seconds = cost(8, 0)});
  EXPECT_FALSE(pacer.MustMeasure(8));
  EXPECT_EQ(pacer.PromptBudget(8), StepPacer::kLeastTokens);
  const Steps run = RunSteps(pacer, 20, 8, cost);
  EXPECT_LE(Percentile(run.slowdowns, 1), kSlowdown);
  EXPECT_GE(run.slowdowns.back(), 0.95 * kSlowdown);
  // Measured less than three times, it asks for that more often.
  EXPECT_EQ(run.num_without, 2);
}

// Streams that had steps for themselves before the first prompt came need no further ones.
TEST(StepPacerTest, WhatWasSeenAnywayIsNotMeasuredAgain) {
  StepPacer pacer(kSlowdown, kMaxTokens);
  for (int i = 0; i < 5; ++i) {
    pacer.Observe({.num_streams = 8, .num_prompt_tokens = 0, .seconds = 0.02});
  }
  EXPECT_EQ(RunSteps(pacer, 16, 8, SparseCost()).num_without, 0);
  EXPECT_TRUE(pacer.MustMeasure(8));
}

TEST(StepPacerTest, FollowsWhatChanges) {
  struct Row {
    std::string claim;
    int streams_before;
    Cost before;
    int streams_after;
    Cost after;
    // Steps with prompts that may take much longer than they should, right after the change.
    int most_late;
  };
  const Row table[] = {
      {"the machine gets twice slower", 8, SparseCost(), 8, SparseCost(2), 0},
      // Until three of five measurements are new.
      {"the machine gets twice faster", 8, SparseCost(2), 8, SparseCost(), 3 * 17},
      {"contexts grow, for streams and prompts alike", 8, SparseCost(), 8,
       [](int streams, int tokens) {
         return SparseCost()(streams, tokens) + 0.003 * streams + 0.001 * tokens;
       },
       1},
      {"prompt tokens alone get four times slower", 8, SparseCost(), 8,
       [](int streams, int tokens) {
         return SparseCost()(streams, tokens) + 0.0015 * std::max(0, tokens - 1);
       },
       7},
      {"streams leave", 64, SparseCost(), 8, SparseCost(), 0},
      {"streams come", 8, SparseCost(), 64, SparseCost(), 0},
      {"all but one leave", 64, DenseCost, 1, DenseCost, 0},
      {"after a long idle time everything is slower", 3, SparseCost(), 12, SparseCost(4), 3},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.claim);
    StepPacer pacer(kSlowdown, kMaxTokens);
    RunSteps(pacer, 300, row.streams_before, row.before);
    const Steps change = RunSteps(pacer, 100, row.streams_after, row.after);
    const auto num_late = std::count_if(change.slowdowns.begin(), change.slowdowns.end(),
                                        [](double s) { return s > 1.1 * kSlowdown; });
    EXPECT_LE(num_late, row.most_late);
    const Steps run = RunSteps(pacer, 200, row.streams_after, row.after);
    EXPECT_GE(Percentile(run.slowdowns, 0.01), 0.9 * kSlowdown);
    EXPECT_LE(Percentile(run.slowdowns, 1), 1.1 * kSlowdown);
  }
}

// A step that takes ten times as long, for reasons of the machine's.
TEST(StepPacerTest, AHiccupDoesLittle) {
  for (const bool in_measurement : {false, true}) {
    SCOPED_TRACE(in_measurement ? "in a step of streams alone" : "in a step with prompts");
    const Cost cost = SparseCost();
    StepPacer pacer(kSlowdown, kMaxTokens);
    const int before = RunSteps(pacer, 300, 8, cost).last_budget;
    while (pacer.MustMeasure(8) != in_measurement) RunSteps(pacer, 1, 8, cost);
    const Steps hiccup = RunSteps(pacer, 1, 8, cost, [] { return 10.0; });
    EXPECT_EQ(hiccup.num_without, in_measurement ? 1 : 0);
    EXPECT_GE(hiccup.last_budget, before * 4 / 10);
    EXPECT_LE(hiccup.last_budget, before * 11 / 10);
    const Steps after = RunSteps(pacer, 12, 8, cost);
    EXPECT_GE(after.last_budget, before * 9 / 10);
    EXPECT_LE(Percentile(after.slowdowns, 1), 1.1 * kSlowdown);
  }
}

// Steps that vary by a fifth either way, and one in a hundred that takes ten times as long: what is
// slowed down is slowed down by what it may be, and some of the noise.
TEST(StepPacerTest, KeepsItsHeadInNoise) {
  for (const uint32_t seed : {1u, 2u, 3u}) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto noise = [&] {
      const double jitter = 0.8 + 0.4 * static_cast<double>(random() % 1001) / 1000;
      return random() % 100 == 0 ? 10 * jitter : jitter;
    };
    StepPacer pacer(kSlowdown, kMaxTokens);
    RunSteps(pacer, 100, 8, SparseCost(), noise);
    const Steps run = RunSteps(pacer, 5000, 8, SparseCost(), noise);
    EXPECT_LE(Percentile(run.slowdowns, 0.95), 1.3 * kSlowdown);
    EXPECT_GE(Percentile(run.slowdowns, 0.5), 0.85 * kSlowdown);
  }
}

TEST(StepPacerTest, ImpossibleTimesTeachNothing) {
  StepPacer pacer(kSlowdown, kMaxTokens);
  const int before = RunSteps(pacer, 300, 8, SparseCost()).last_budget;
  for (const double factor : {0.0, -1.0, -1e9}) {
    const Steps run = RunSteps(pacer, 50, 8, [=](int, int) { return factor; });
    EXPECT_EQ(run.last_budget, before);
    EXPECT_GE(run.num_without, 50 / 17);
  }
  // Nor do they let prompts wait for ever, when nothing else comes.
  StepPacer fresh(kSlowdown, kMaxTokens);
  const Steps run = RunSteps(fresh, 100, 8, [](int, int) { return 0.0; });
  EXPECT_EQ(run.least_tokens, StepPacer::kLeastTokens);
  EXPECT_EQ(run.num_without, 20);
}

TEST(StepPacerTest, AShortPromptSaysNothingAboutALongOne) {
  StepPacer pacer(kSlowdown, kMaxTokens);
  const int before = RunSteps(pacer, 300, 8, SparseCost()).last_budget;
  const Cost cost = SparseCost();
  for (int i = 0; i < 16; ++i) {
    pacer.Observe({.num_streams = 8, .num_prompt_tokens = 5, .seconds = cost(8, 5)});
  }
  EXPECT_EQ(pacer.PromptBudget(8), before);
}

}  // namespace
}  // namespace sluice::scheduler
