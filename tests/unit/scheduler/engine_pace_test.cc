// How long streams wait for their tokens while prompts of others arrive: an engine whose steps take
// as long on its clock as a model of experts would.
#include <gtest/gtest.h>
#include <prometheus/gauge.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/engine_core.h"
#include "test_engine.h"

namespace sluice::scheduler {
namespace {

constexpr int kStreams = 8;
constexpr int kPromptTokens = 2048;

// Four layers of 64 experts, of which a token needs 8 at random: the time to read those that are
// needed, to compute the tokens, and to look at what stands before each.
double Cost(absl::Span<const model::SequenceStep> batch) {
  double tokens = 0;
  double looks = 0;
  for (const model::SequenceStep& step : batch) {
    const double size = static_cast<double>(step.tokens.size());
    tokens += size;
    looks += size * (static_cast<double>(step.first_position) + size / 2);
  }
  const double experts = 64 * (1 - std::pow(1 - 8.0 / 64, tokens));
  return 0.002 + 0.0006 * experts + 0.0005 * tokens + 1e-7 * looks;
}

struct SparseEngine : TestEngine {
  SparseEngine(std::optional<double> max_step_slowdown, std::function<double()> noise_in)
      : TestEngine({.limits = {.max_running_requests = kStreams + 1,
                               .max_step_tokens = 512,
                               .max_step_slowdown = max_step_slowdown,
                               .max_context = 4096},
                    .runner = {.num_kv_blocks = 2500,
                               .next_token = CountTokens,
                               .on_run =
                                   [this](absl::Span<const model::SequenceStep> batch) {
                                     clock.Advance(absl::Seconds(Cost(batch) * noise()));
                                   }}}),
        noise(std::move(noise_in)) {
    for (int i = 0; i < kStreams; ++i) {
      Submit(MakeRequest(absl::StrCat("stream", i), 10, 4000), streams[i]);
    }
    Steps(1);
  }

  // A prompt that has nothing in common with others.
  Request MakePrompt() {
    Request request = MakeRequest(absl::StrCat("prompt", num_prompts), kPromptTokens, 1);
    request.prompt[0] = 2 + num_prompts++;
    return request;
  }

  // Steps, and how long the streams waited for their tokens, in seconds; one prompt after the
  // other runs beside them, if wanted.
  std::vector<double> Waits(int num_steps, bool with_prompts) {
    std::vector<double> waits;
    for (int i = 0; i < num_steps; ++i) {
      if (with_prompts && IsPromptDone()) {
        prompt.emplace();
        prompt_steps = 0;
        Submit(MakePrompt(), *prompt);
      }
      const size_t before = streams[0].events().size();
      const absl::Time start = clock.Now();
      Steps(1);
      ++prompt_steps;
      if (prompt.has_value() && IsPromptDone()) {
        ++num_finished;
        most_prompt_steps = std::max(most_prompt_steps, prompt_steps);
        prompt.reset();
      }
      waits.push_back(absl::ToDoubleSeconds(clock.Now() - start));
      for (Reader& stream : streams) EXPECT_EQ(stream.events().size(), before + 1);
    }
    return waits;
  }

  bool IsPromptDone() { return !prompt.has_value() || absl::EndsWith(prompt->words(), "length"); }

  std::function<double()> noise;
  std::vector<Reader> streams{kStreams};
  std::optional<Reader> prompt;  // that runs
  int num_prompts = 0;
  int num_finished = 0;
  int prompt_steps = 0;
  int most_prompt_steps = 0;
};

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

TEST(EnginePaceTest, StreamsWaitAtMostThreeTimesAsLongWhilePromptsKeepArriving) {
  struct Row {
    std::string claim;
    std::optional<double> max_step_slowdown;
    double jitter;  // of a step's time, to both sides
    int hiccup;     // one step in so many takes ten times as long; 0: none
    bool holds;
  };
  const Row table[] = {
      {"not limited", std::nullopt, 0, 0, false},
      {"a limit that is too large", 6, 0, 0, false},
      {"the server's default", 2.2, 0, 0, true},
      {"a machine that is not steady", 2.2, 0.2, 0, true},
      {"one that stops at times", 2.2, 0.1, 200, true},
      {"with less of a margin", 2.5, 0.1, 0, true},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.claim);
    std::mt19937 random(5);
    SparseEngine engine(row.max_step_slowdown, [&] {
      const double factor = 1 + row.jitter * (static_cast<double>(random() % 2001) / 1000 - 1);
      return row.hiccup > 0 && random() % row.hiccup == 0 ? 10 * factor : factor;
    });
    const std::vector<double> without = engine.Waits(500, false);
    const std::vector<double> with = engine.Waits(1200, true);
    EXPECT_EQ(Percentile(with, 0.99) <= 3 * Percentile(without, 0.99), row.holds)
        << Percentile(with, 0.99) / Percentile(without, 0.99);
    if (row.holds) {
      // They were let in as far as they may.
      EXPECT_GE(Percentile(with, 0.5), 0.85 * *row.max_step_slowdown * Percentile(without, 0.5));
    }
    // Every prompt comes to its end, and no later than the least budget allows.
    EXPECT_GE(engine.num_finished, 10);
    EXPECT_LE(engine.most_prompt_steps, kPromptTokens / StepPacer::kLeastTokens * 5 / 4);
    while (engine.prompt.has_value()) engine.Waits(1, false);
    EXPECT_EQ(engine.num_finished, engine.num_prompts);
  }
}

TEST(EnginePaceTest, TheBudgetIsReported) {
  SparseEngine engine(2.5, [] { return 1.0; });
  const prometheus::Gauge& budget = engine.metrics.engine().step_prompt_budget_tokens;
  engine.Waits(20, false);
  EXPECT_EQ(budget.Value(), StepPacer::kLeastTokens);
  engine.Waits(100, true);
  EXPECT_GT(budget.Value(), 2 * StepPacer::kLeastTokens);
  EXPECT_LT(budget.Value(), 200);
  for (int i = 0; i < kStreams; ++i) {
    EXPECT_TRUE(engine.core.Cancel(absl::StrCat("stream", i)).ok());
  }
  engine.Steps(1);
  EXPECT_EQ(budget.Value(), 512);
}

// All places are taken, so another prompt waits until the one that runs is computed, and then takes
// its own time.
TEST(EnginePaceTest, WaitsAreEstimatedByTheSpeedThatPromptsHaveBesideStreams) {
  SparseEngine engine(2.5, [] { return 1.0; });
  engine.Waits(20, false);
  const absl::Time start = engine.clock.Now();
  const int64_t tokens_before = engine.core.Load().prompt_tokens;
  engine.Waits(200, true);
  const double seconds_per_token =
      absl::ToDoubleSeconds(engine.clock.Now() - start) /
      static_cast<double>(engine.core.Load().prompt_tokens - tokens_before);
  engine.Waits(2, true);
  ASSERT_TRUE(engine.prompt.has_value());
  for (const double share : {0.85, 1.15}) {
    Reader reader;
    Request request = engine.MakePrompt();
    request.deadline =
        engine.clock.Now() + absl::Seconds(share * kPromptTokens * seconds_per_token);
    EXPECT_EQ(engine.core.Submit(std::move(request), reader.stream()).code(),
              share < 1 ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kOk);
  }
}

}  // namespace
}  // namespace sluice::scheduler
