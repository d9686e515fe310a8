#include "test_engine.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sluice::scheduler {
namespace {

template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <typename... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

std::string OfChoice(int choice) { return choice == 0 ? "" : absl::StrCat(choice, ":"); }

std::string Word(const StreamEvent& event) {
  return std::visit(
      Overloaded{
          [](const StartedEvent&) -> std::string { return "started"; },
          [](const PromptLogprobsEvent& e) {
            return absl::StrCat("prompt_logprobs:", e.logprobs.size());
          },
          [](const TokenEvent& e) { return absl::StrCat(OfChoice(e.choice), e.token); },
          [](const FinishedEvent& e) {
            return absl::StrCat(OfChoice(e.choice),
                                e.reason == FinishReason::kLength ? "length" : "stop_token");
          },
          [](const FailedEvent& e) { return absl::StatusCodeToString(e.status.code()); },
      },
      event);
}

testing::FakeModelRunner::Options WithClock(TestSetup setup, testing::ManualClock& clock) {
  setup.runner.clock = &clock;
  setup.runner.step_time = setup.step_time;
  return std::move(setup.runner);
}

}  // namespace

std::string Describe(const std::vector<StreamEvent>& events) {
  return absl::StrJoin(events, " ", [](std::string* out, const StreamEvent& event) {
    absl::StrAppend(out, Word(event));
  });
}

std::vector<TokenId> TokensOf(const std::vector<StreamEvent>& events, int choice) {
  std::vector<TokenId> tokens;
  for (const StreamEvent& event : events) {
    const auto* token = std::get_if<TokenEvent>(&event);
    if (token != nullptr && token->choice == choice) tokens.push_back(token->token);
  }
  return tokens;
}

TokenId CountTokens(absl::Span<const TokenId> context) {
  return static_cast<TokenId>(context.size());
}

Reader::Reader()
    : stream_(std::make_shared<TokenStream>([num_wakes = num_wakes_] { ++*num_wakes; })) {}

const std::vector<StreamEvent>& Reader::events() {
  for (StreamEvent& event : stream_->Take()) events_.push_back(std::move(event));
  return events_;
}

TestMetrics::TestMetrics()
    : server_({.version = "test"}),
      engine_(server_.Engine(server_.AddExpertLoad({0}, testing::FakeModelRunner::kNumExperts, 1,
                                                   metrics::ExpertMetrics::kOff))) {}

TestEngine::TestEngine(TestSetup setup)
    : own_metrics(setup.metrics == nullptr ? std::make_unique<TestMetrics>() : nullptr),
      metrics(own_metrics == nullptr ? *setup.metrics : *own_metrics),
      runner(WithClock(setup, clock)),
      core({.limits = setup.limits,
            .clock = &clock,
            .runner = &runner,
            .metrics = &metrics.engine()}) {}

void TestEngine::Submit(Request request, Reader& reader) {
  const absl::Status status = core.Submit(std::move(request), reader.stream());
  ASSERT_TRUE(status.ok()) << status;
}

void TestEngine::ExpectIdle() const {
  const EngineLoad load = core.Load();
  EXPECT_EQ(load.waiting_requests, 0);
  EXPECT_EQ(load.running_requests, 0);
  EXPECT_EQ(load.waiting_prompt_tokens, 0);
  EXPECT_EQ(load.used_kv_blocks(), 0);
  EXPECT_EQ(load.free_kv_blocks + load.cached_kv_blocks, load.total_kv_blocks);
}

CountingEngine::CountingEngine(EngineLimits limits, int num_kv_blocks)
    : TestEngine({.limits = limits,
                  .runner = {.num_kv_blocks = num_kv_blocks,
                             .on_run = [this](absl::Span<const model::SequenceStep> batch) {
                               for (const auto& step : batch) computed += step.tokens.size();
                             }}}) {}

size_t CountingEngine::RunAlone(Request request, Reader& reader) {
  const size_t before = computed;
  Submit(std::move(request), reader);
  Steps(100);
  ExpectIdle();
  return computed - before;
}

Request MakeRequest(absl::string_view id, int prompt_tokens, int max_tokens) {
  Request request;
  request.id = std::string(id);
  request.prompt.assign(prompt_tokens, 1);
  request.max_tokens = max_tokens;
  return request;
}

}  // namespace sluice::scheduler
