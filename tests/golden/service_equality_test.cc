// The same request has the same answer whatever happens to it in the engine: alone, in a batch, in
// chunks, put off and computed anew, or begun from the prefix cache. The real engine on the real
// model, with every golden checkpoint and f32 weights; tokens and log-probabilities bit by bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "golden_dir.h"
#include "metrics/server_metrics.h"
#include "model/checkpoint.h"
#include "model/cpu_model_runner.h"
#include "scheduler/engine_core.h"

namespace sluice::scheduler {
namespace {

constexpr unsigned kSeed = 20;
constexpr int kRequests = 64;
constexpr int kMaxPrompt = 108;
constexpr int kMaxTokens = 20;
// All prompts in one step.
constexpr int kManyTokens = kRequests * kMaxPrompt;
// Enough for all requests at once.
constexpr int kManyBlocks = kRequests * 3 * (kMaxPrompt + kMaxTokens) / model::kKvBlockTokens;

// Part of a real runner, and a record of what it was asked to do.
class WatchedRunner final : public model::ModelRunner {
 public:
  struct Record {
    int64_t tokens = 0;
    int64_t steps = 0;
    int64_t chunks = 0;  // after which no token was drawn
    size_t largest_batch = 0;
  };

  WatchedRunner(model::ModelRunner& runner, int num_kv_blocks)
      : runner_(runner), num_kv_blocks_(num_kv_blocks) {}

  const Record& record() const { return record_; }

  int num_kv_blocks() const override { return num_kv_blocks_; }
  int max_step_tokens() const override { return runner_.max_step_tokens(); }
  int max_step_sequences() const override { return runner_.max_step_sequences(); }
  absl::Span<const model::SequenceResult> Run(
      absl::Span<const model::SequenceStep> batch) override {
    ++record_.steps;
    record_.largest_batch = std::max(record_.largest_batch, batch.size());
    for (const model::SequenceStep& step : batch) {
      record_.tokens += static_cast<int64_t>(step.tokens.size());
      record_.chunks += step.sampling == nullptr;
    }
    return runner_.Run(batch);
  }
  void CopyBlock(model::BlockId from, model::BlockId to) override { runner_.CopyBlock(from, to); }
  model::ExpertStepLoad expert_load() const override { return runner_.expert_load(); }

 private:
  model::ModelRunner& runner_;
  const int num_kv_blocks_;
  Record record_;
};

// Everything that a client gets of one choice.
struct Choice {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  bool finished = false;

  bool operator==(const Choice&) const = default;
};
using Choices = std::map<int, Choice>;

Choices Gather(const std::vector<StreamEvent>& events) {
  Choices choices;
  for (const StreamEvent& event : events) {
    if (const auto* token = std::get_if<TokenEvent>(&event)) {
      Choice& choice = choices[token->choice];
      choice.tokens.push_back(token->token);
      choice.logprobs.push_back(token->logprob->logprob);
      for (const auto& [id, logprob] : token->logprob->top) choice.logprobs.push_back(logprob);
    } else if (const auto* end = std::get_if<FinishedEvent>(&event)) {
      choices[end->choice].finished = true;
    } else if (const auto* failed = std::get_if<FailedEvent>(&event)) {
      ADD_FAILURE() << failed->status;
    }
  }
  return choices;
}

// Greedy and sampled ones, with and without penalties; many prompts begin alike, some are the same.
std::vector<Request> MakeRequests(int vocab_size) {
  std::mt19937 random(kSeed);
  const auto tokens = [&](size_t n) {
    std::vector<TokenId> ids(n);
    for (TokenId& id : ids) id = static_cast<TokenId>(random() % vocab_size);
    return ids;
  };
  std::vector<std::vector<TokenId>> beginnings;
  for (int i = 0; i < 4; ++i) beginnings.push_back(tokens(48));

  std::vector<Request> requests;
  for (int i = 0; i < kRequests; ++i) {
    Request request;
    request.id = absl::StrCat("request ", i);
    if (i % 8 == 0) {
      request.prompt = tokens(1 + random() % 3);
    } else if (i % 8 == 1) {
      request.prompt = tokens(model::kKvBlockTokens);
    } else if (i % 16 == 15) {
      request.prompt = requests[i - 9].prompt;
    } else {
      request.prompt = beginnings[i % 4];
      for (const TokenId id : tokens(random() % 60)) request.prompt.push_back(id);
    }
    request.max_tokens = kMaxTokens - static_cast<int>(random() % 12);
    request.logprobs = 2;
    if (i % 5 == 4) request.num_choices = 3;
    if (i % 3 == 1) {
      request.stop_token_ids = tokens(6);
      request.min_tokens = request.max_tokens / 2;
    }
    model::SamplingParams& sampling = request.sampling;
    sampling.seed = random();
    if (i % 2 == 1) sampling.temperature = 0.8f;
    if (i % 4 == 1) sampling.top_p = 0.9f;
    if (i % 4 == 3) sampling.top_k = 30;
    if (i % 7 == 3) sampling.typical_p = 0.8f;
    if (i % 3 == 0) {
      sampling.repetition_penalty = 1.3f;
      sampling.presence_penalty = 0.5f;
      sampling.frequency_penalty = 0.25f;
      sampling.logit_bias = {{3, 1.5f}, {7, -100.0f}};
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

// How many tokens the model computes, compared with each request alone.
enum class Work { kSame, kMore, kFewer, kAny };

struct Row {
  const char* name;
  int max_step_tokens = 512;
  int max_running_requests = 64;
  int num_kv_blocks = kManyBlocks;
  bool bypass_prefix_cache = true;
  // Runs through all requests; in one engine, so that the later may find what the earlier left.
  int rounds = 1;
  Work work = Work::kSame;
  size_t least_batch = 1;
  // Whether sequences give up their blocks on the way.
  bool preempts = false;
};

constexpr Row kRows[] = {
    {.name = "one after the other", .max_running_requests = 3},
    {.name = "a batch of 64", .max_step_tokens = kManyTokens, .least_batch = 64},
    {.name = "in chunks", .max_step_tokens = 7, .least_batch = 2},
    {.name = "a batch in chunks", .max_step_tokens = 61, .least_batch = 10},
    {.name = "short of blocks",
     .num_kv_blocks = 24,
     .work = Work::kMore,
     .least_batch = 2,
     .preempts = true},
    {.name = "short of blocks, in chunks",
     .max_step_tokens = 11,
     .num_kv_blocks = 10,
     .work = Work::kMore,
     .least_batch = 2,
     .preempts = true},
    {.name = "from the prefix cache",
     .bypass_prefix_cache = false,
     .rounds = 2,
     .work = Work::kFewer},
    {.name = "from a small prefix cache, in chunks",
     .max_step_tokens = 23,
     .num_kv_blocks = 40,
     .bypass_prefix_cache = false,
     .rounds = 3,
     .work = Work::kFewer},
    // What is put off may find its own blocks again, or those of others.
    {.name = "from the prefix cache, short of blocks, in chunks",
     .max_step_tokens = 19,
     .num_kv_blocks = 14,
     .bypass_prefix_cache = false,
     .rounds = 2,
     .work = Work::kAny,
     .least_batch = 2,
     .preempts = true},
};

class ServiceEqualityTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto checkpoint = model::Checkpoint::Open(golden::GoldenDir() / "models" / GetParam());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    config_ = (*checkpoint)->config();
    const int64_t block_bytes =
        model::KvCache::Shape::Of(config_, kernels::KvFormat::kF32).block_bytes();
    auto runner =
        model::CpuModelRunner::Create(**checkpoint, {.num_threads = 2,
                                                     .kv_cache_bytes = block_bytes * kManyBlocks,
                                                     .max_step_tokens = kManyTokens});
    ASSERT_TRUE(runner.ok()) << runner.status();
    runner_ = *std::move(runner);
    ASSERT_EQ(runner_->num_kv_blocks(), kManyBlocks);
    std::vector<int> sparse_layers;
    for (int i = 0; i < config_.num_layers(); ++i) {
      if (config_.layers[i].sparse) sparse_layers.push_back(i);
    }
    expert_load_ = &metrics_.AddExpertLoad(sparse_layers, config_.router.num_experts,
                                           config_.router.top_k, metrics::ExpertMetrics::kOff);
    requests_ = MakeRequests(config_.vocab_size);
  }

  struct Outcome {
    std::vector<Choices> choices;  // of each request
    WatchedRunner::Record record;
    int64_t preemptions = 0;
    int64_t cached_prompt_tokens = 0;
  };

  // Each round submits all requests at once and lets the engine run until it is idle. The answers
  // are those of the last round.
  Outcome Serve(const Row& row, const std::vector<Request>& requests) {
    metrics::EngineMetrics metrics = metrics_.Engine(*expert_load_);
    WatchedRunner runner(*runner_, row.num_kv_blocks);
    EngineOptions options;
    options.limits.max_running_requests = row.max_running_requests;
    options.limits.max_step_tokens = row.max_step_tokens;
    options.limits.max_context = config_.max_context;
    options.runner = &runner;
    options.metrics = &metrics;
    EngineCore engine(options);
    Outcome outcome;
    for (int round = 0; round < row.rounds; ++round) {
      std::vector<std::shared_ptr<TokenStream>> streams;
      for (Request request : requests) {
        request.bypass_prefix_cache = row.bypass_prefix_cache;
        streams.push_back(std::make_shared<TokenStream>([] {}));
        const absl::Status status = engine.Submit(std::move(request), streams.back());
        EXPECT_TRUE(status.ok()) << status;
      }
      do {
        engine.Step();
      } while (engine.Load().waiting_requests + engine.Load().running_requests > 0);
      outcome.choices.clear();
      for (const auto& stream : streams) outcome.choices.push_back(Gather(stream->Take()));
    }
    outcome.record = runner.record();
    outcome.preemptions = engine.Load().preemptions;
    outcome.cached_prompt_tokens = engine.Load().cached_prompt_tokens;
    return outcome;
  }

  // What each request gets when it has the engine to itself.
  Outcome ServeAlone() {
    Outcome outcome;
    for (const Request& request : requests_) {
      const Outcome one = Serve({.name = "alone"}, {request});
      outcome.choices.push_back(one.choices[0]);
      outcome.record.tokens += one.record.tokens;
      outcome.record.chunks += one.record.chunks;
    }
    return outcome;
  }

  model::ModelConfig config_;
  metrics::ServerMetrics metrics_{{"0.0.0", "compiler", "isa"}};
  metrics::ExpertLoad* expert_load_ = nullptr;
  std::unique_ptr<model::CpuModelRunner> runner_;
  std::vector<Request> requests_;
};

TEST_P(ServiceEqualityTest, AnswersDoNotDependOnWhatElseTheEngineDoes) {
  const Outcome alone = ServeAlone();
  EXPECT_EQ(alone.record.chunks, 0);
  size_t num_tokens = 0;
  for (int i = 0; i < kRequests; ++i) {
    EXPECT_EQ(alone.choices[i].size(), static_cast<size_t>(requests_[i].num_choices));
    for (const auto& [number, choice] : alone.choices[i]) {
      EXPECT_TRUE(choice.finished) << requests_[i].id << ", choice " << number;
      num_tokens += choice.tokens.size();
    }
  }
  EXPECT_GT(num_tokens, size_t{kRequests} * 5);

  for (const Row& row : kRows) {
    SCOPED_TRACE(row.name);
    const Outcome outcome = Serve(row, requests_);
    for (int i = 0; i < kRequests; ++i) {
      EXPECT_TRUE(outcome.choices[i] == alone.choices[i])
          << requests_[i].id << ": " << ::testing::PrintToString(outcome.choices.at(i).at(0).tokens)
          << ", alone " << ::testing::PrintToString(alone.choices.at(i).at(0).tokens);
    }
    // That it was what its name says.
    const WatchedRunner::Record& record = outcome.record;
    const int64_t tokens_alone = alone.record.tokens * row.rounds;
    switch (row.work) {
      case Work::kSame:
        EXPECT_EQ(record.tokens, tokens_alone);
        break;
      case Work::kMore:
        EXPECT_GT(record.tokens, tokens_alone);
        break;
      case Work::kFewer:
        EXPECT_LT(record.tokens, tokens_alone);
        break;
      case Work::kAny:
        break;
    }
    if (row.preempts) {
      EXPECT_GT(outcome.preemptions, 0);
    }
    EXPECT_EQ(outcome.cached_prompt_tokens > 0, !row.bypass_prefix_cache);
    EXPECT_GE(record.largest_batch, row.least_batch);
    EXPECT_TRUE(record.chunks > 0 || row.max_step_tokens >= kMaxPrompt);
    std::cout << row.name << ": " << record.steps << " steps, " << record.tokens << " of "
              << tokens_alone << " tokens, " << record.chunks << " chunks, " << outcome.preemptions
              << " preemptions, " << outcome.cached_prompt_tokens << " prompt tokens found\n";
  }
}

// The rows are worth something only if another seed makes another answer.
TEST_P(ServiceEqualityTest, AnotherSeedMakesAnotherAnswer) {
  const Row row = {.name = "a batch of 64"};
  const Outcome before = Serve(row, requests_);
  for (Request& request : requests_) ++request.sampling.seed;
  const Outcome after = Serve(row, requests_);
  int num_changed = 0;
  for (int i = 0; i < kRequests; ++i) {
    const bool changed = !(before.choices[i] == after.choices[i]);
    EXPECT_FALSE(changed && requests_[i].sampling.temperature == 0) << requests_[i].id;
    num_changed += changed;
  }
  EXPECT_GT(num_changed, kRequests / 4);
}

INSTANTIATE_TEST_SUITE_P(Models, ServiceEqualityTest,
                         ::testing::ValuesIn(golden::GoldenCases("models")),
                         [](const auto& param) { return golden::TestName(param.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ServiceEqualityTest);

}  // namespace
}  // namespace sluice::scheduler
