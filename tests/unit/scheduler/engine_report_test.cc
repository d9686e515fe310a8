// What the engine reports beside the tokens: log-probabilities, metrics and the expert load.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "metrics/histogram.h"
#include "scheduler/engine_core.h"
#include "test_engine.h"

namespace sluice::scheduler {
namespace {

using ::testing::ElementsAre;
using testing::FakeLogprob;

template <typename Event>
std::vector<Event> Only(const std::vector<StreamEvent>& events) {
  std::vector<Event> only;
  for (const StreamEvent& event : events) {
    if (const auto* wanted = std::get_if<Event>(&event)) only.push_back(*wanted);
  }
  return only;
}

void ExpectEqual(const model::TokenLogprob& actual, const model::TokenLogprob& expected) {
  EXPECT_EQ(actual.token, expected.token);
  EXPECT_EQ(actual.logprob, expected.logprob);
  EXPECT_EQ(actual.top, expected.top);
}

TEST(PromptLogprobsTest, AreGatheredAcrossChunksAndComeOnceBeforeTheFirstToken) {
  // With a budget of 8: one token; one chunk; exactly one chunk; chunks that end at and beside the
  // prompt's end.
  for (const int prompt_tokens : {1, 2, 7, 8, 9, 16, 17, 30}) {
    for (const int num_top : {0, 3}) {
      SCOPED_TRACE(::testing::Message() << prompt_tokens << " tokens, top " << num_top);
      TestEngine engine({.limits = {.max_step_tokens = 8, .max_context = 100}});
      Request request = MakeRequest("a", prompt_tokens, 3);
      for (int i = 0; i < prompt_tokens; ++i) request.prompt[i] = 100 + i * i;
      request.prompt_logprobs = num_top;
      const std::vector<TokenId> prompt = request.prompt;
      Reader reader;
      engine.Submit(std::move(request), reader);
      engine.Steps(8);

      ASSERT_EQ(reader.events().size(), 3u + 3);
      ASSERT_TRUE(std::holds_alternative<PromptLogprobsEvent>(reader.events()[1]));
      const auto& logprobs = std::get<PromptLogprobsEvent>(reader.events()[1]).logprobs;
      ASSERT_EQ(logprobs.size(), prompt.size() - 1);
      for (size_t i = 0; i + 1 < prompt.size(); ++i) {
        ExpectEqual(logprobs[i], FakeLogprob(prompt[i], prompt[i + 1], num_top));
      }
    }
  }
}

TEST(PromptLogprobsTest, AreNotComputedUnlessAskedFor) {
  TestEngine engine({.limits = {.max_context = 100},
                     .runner = {.on_run = [](absl::Span<const model::SequenceStep> batch) {
                       for (const auto& step : batch) EXPECT_TRUE(step.targets.empty());
                     }}});
  Reader reader;
  engine.Submit(MakeRequest("a", 20, 2), reader);
  engine.Steps(2);
  EXPECT_TRUE(Only<PromptLogprobsEvent>(reader.events()).empty());
}

TEST(TokenLogprobTest, ComesWithEachTokenWhenAskedFor) {
  for (const std::optional<int> num_top : {std::optional<int>(), {0}, {5}}) {
    TestEngine engine;
    Reader reader;
    Request request = MakeRequest("a", 3, 3);
    request.logprobs = num_top;
    engine.Submit(std::move(request), reader);
    engine.Steps(3);
    const std::vector<TokenEvent> tokens = Only<TokenEvent>(reader.events());
    ASSERT_EQ(tokens.size(), 3u);
    TokenId previous = 1;
    for (const TokenEvent& event : tokens) {
      ASSERT_EQ(event.logprob.has_value(), num_top.has_value());
      if (num_top) ExpectEqual(*event.logprob, FakeLogprob(previous, event.token, *num_top));
      previous = event.token;
    }
  }
}

TEST(SamplingTest, TheRunnerSeesEachRequestsOwnParameters) {
  std::vector<uint64_t> seeds;
  TestEngine engine({.limits = {.max_step_tokens = 8, .max_context = 100},
                     .runner = {.on_run = [&](absl::Span<const model::SequenceStep> batch) {
                       for (const auto& step : batch) {
                         if (step.sampling != nullptr) seeds.push_back(step.sampling->seed);
                       }
                     }}});
  Reader a, b;
  Request request = MakeRequest("a", 2, 3);
  request.sampling.seed = 11;
  engine.Submit(std::move(request), a);
  request = MakeRequest("b", 10, 1);
  request.sampling.seed = 22;
  engine.Submit(std::move(request), b);
  engine.Steps(3);
  EXPECT_THAT(seeds, ElementsAre(11, 11, 22, 11));
}

struct Sums {
  int64_t count;
  double sum;
};

Sums Of(const metrics::Histogram& histogram) {
  const metrics::HistogramCounts read = histogram.Read();
  return {std::accumulate(read.counts.begin(), read.counts.end(), int64_t{0}), read.sum};
}

#define EXPECT_SUMS(histogram, expected_count, expected_sum)           \
  do {                                                                 \
    const Sums sums = Of(histogram);                                   \
    EXPECT_EQ(sums.count, int64_t{expected_count});                    \
    EXPECT_NEAR(sums.sum, expected_sum, 1e-6) << #histogram << ".sum"; \
  } while (false)

// One request runs at a time, a step takes 100 ms and computes at most 8 tokens.
TEST(EngineMetricsTest, MeasureTheStagesOfARequest) {
  TestEngine engine(
      {.limits = {.max_running_requests = 1, .max_step_tokens = 8, .max_context = 100},
       .runner = {.next_token = CountTokens},
       .step_time = absl::Milliseconds(100)});
  const metrics::EngineMetrics& metrics = engine.metrics.engine();
  Reader a, b;
  engine.Submit(MakeRequest("a", 20, 4), a);  // three steps for the prompt, three more
  engine.clock.Advance(absl::Seconds(2));
  engine.Submit(MakeRequest("b", 8, 1), b);
  engine.Steps(2);
  EXPECT_EQ(metrics.requests_running.Value(), 1);
  EXPECT_EQ(metrics.requests_waiting.Value(), 1);
  EXPECT_EQ(metrics.kv_blocks_used.Value(), 1);
  EXPECT_EQ(metrics.kv_blocks_free.Value(), 63);
  EXPECT_EQ(metrics.kv_blocks_cached.Value(), 0);
  EXPECT_EQ(metrics.kv_cache_usage_ratio.Value(), 1.0 / 64);
  EXPECT_EQ(metrics.prompt_tokens_total.Value(), 16);
  EXPECT_EQ(metrics.generation_tokens_total.Value(), 0);
  engine.Steps(5);
  EXPECT_EQ(a.words(), "started 20 21 22 23 length");
  EXPECT_EQ(b.words(), "started 8 length");

  EXPECT_EQ(metrics.requests_running.Value(), 0);
  EXPECT_EQ(metrics.requests_waiting.Value(), 0);
  EXPECT_EQ(metrics.kv_blocks_used.Value(), 0);
  EXPECT_EQ(metrics.kv_blocks_cached.Value(), 1);
  EXPECT_EQ(metrics.kv_blocks_free.Value(), 63);
  EXPECT_EQ(metrics.kv_cache_usage_ratio.Value(), 0);
  EXPECT_EQ(metrics.prompt_tokens_total.Value(), 28);
  EXPECT_EQ(metrics.generation_tokens_total.Value(), 5);
  EXPECT_SUMS(metrics.step_seconds, 7, 0.7);
  EXPECT_SUMS(metrics.step_tokens, 7, 20 + 3 + 8);
  EXPECT_SUMS(metrics.step_sequences, 7, 7);
  EXPECT_SUMS(metrics.queue_time_seconds, 2, 2.0 + 0.6);
  EXPECT_SUMS(metrics.prefill_time_seconds, 2, 0.3 + 0.1);
  EXPECT_SUMS(metrics.time_to_first_token_seconds, 2, 2.3 + 0.7);
  EXPECT_SUMS(metrics.inter_token_latency_seconds, 3, 0.3);
  EXPECT_SUMS(metrics.decode_time_seconds, 1, 0.3);
  EXPECT_SUMS(metrics.request_time_per_output_token_seconds, 1, 0.1);

  const EngineLoad load = engine.core.Load();
  EXPECT_EQ(load.steps, 7);
  EXPECT_EQ(load.prompt_tokens, 28);
  EXPECT_EQ(load.generated_tokens, 5);
}

TEST(EngineMetricsTest, ARequestThatFailsIsInNoStageThatItDidNotReach) {
  TestEngine engine({.limits = {.max_step_tokens = 8, .max_context = 100}});
  const metrics::EngineMetrics& metrics = engine.metrics.engine();
  Reader prefill, decode, inbox;
  engine.Submit(MakeRequest("decode", 1, 9), decode);
  engine.Steps(1);
  engine.Submit(MakeRequest("prefill", 20, 9), prefill);
  engine.Steps(1);
  engine.Submit(MakeRequest("inbox", 1, 9), inbox);
  for (const char* id : {"decode", "prefill", "inbox"}) EXPECT_TRUE(engine.core.Cancel(id).ok());
  engine.Steps(1);
  engine.ExpectIdle();
  EXPECT_SUMS(metrics.queue_time_seconds, 2, 0);
  EXPECT_SUMS(metrics.prefill_time_seconds, 1, 0);
  EXPECT_SUMS(metrics.decode_time_seconds, 1, 0);
}

TEST(EngineMetricsTest, AStepIsCountedEverywhereBeforeItsReadersHearOfIt) {
  TestEngine engine;
  const metrics::EngineMetrics& metrics = engine.metrics.engine();
  TokenStream* stream = nullptr;
  int64_t tokens = 0;
  const auto check = [&] {
    for (const StreamEvent& event : stream->Take()) {
      if (std::holds_alternative<StartedEvent>(event)) {
        EXPECT_EQ(engine.core.Load().running_requests, 1);
        EXPECT_EQ(engine.core.Load().waiting_requests, 0);
        EXPECT_EQ(metrics.requests_running.Value(), 1);
      }
      if (!std::holds_alternative<TokenEvent>(event)) continue;
      ++tokens;
      EXPECT_EQ(engine.core.Load().generated_tokens, tokens);
      EXPECT_EQ(metrics.generation_tokens_total.Value(), tokens);
      const metrics::ExpertLoad::Snapshot experts = metrics.expert_load.Read();
      EXPECT_EQ(experts.steps, tokens);
      int64_t routed = 0;
      for (const int64_t n : experts.layers[0].tokens) routed += n;
      EXPECT_EQ(routed, 5 + tokens - 1);
    }
  };
  auto shared = std::make_shared<TokenStream>(check);
  stream = shared.get();
  EXPECT_TRUE(engine.core.Submit(MakeRequest("a", 5, 4), shared).ok());
  engine.Steps(4);
  EXPECT_EQ(tokens, 4);
}

}  // namespace
}  // namespace sluice::scheduler
