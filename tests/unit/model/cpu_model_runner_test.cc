#include "model/cpu_model_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/reference.h"
#include "model/memory_estimate.h"
#include "model/weights.h"
#include "support/f64_model.h"
#include "support/model_session.h"
#include "support/random_checkpoint.h"
#include "support/tolerance.h"

namespace sluice::model {
namespace {

using kernels::WeightFormat;
using testing::F64Model;
using testing::ModelSession;
using testing::RandomCheckpoint;

std::vector<TokenId> RandomTokens(int count, int vocab_size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % vocab_size);
  return tokens;
}

bool BitwiseEqual(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// A model that differs from the small one in some respect.
struct Variant {
  std::string name;
  void (*change)(ModelConfig&);
  DType dtype = DType::kF32;
};

void SetRope(ModelConfig& config, RopeConfig::Scaling scaling) {
  config.attention.rope = {
      .theta = 1000, .scaling = scaling, .factor = 4, .original_max_positions = 16};
  if (scaling == RopeConfig::Scaling::kYarn) config.attention.rope.attention_factor = 1.14;
}

const Variant kVariants[] = {
    {"small", [](ModelConfig&) {}},
    {"bf16_file", [](ModelConfig&) {}, DType::kBf16},
    {"f16_file", [](ModelConfig&) {}, DType::kF16},
    {"one_expert", [](ModelConfig& c) { c.router = {.num_experts = 1, .top_k = 1}; }},
    {"all_experts", [](ModelConfig& c) { c.router = {.num_experts = 5, .top_k = 5}; }},
    {"many_experts",
     [](ModelConfig& c) { c.router = {.num_experts = 130, .top_k = 9, .renormalize = true}; }},
    {"multi_head", [](ModelConfig& c) { c.attention.num_kv_heads = 6; }},
    {"multi_query", [](ModelConfig& c) { c.attention.num_kv_heads = 1; }},
    {"wide_group",
     [](ModelConfig& c) { c.attention = {.num_heads = 70, .num_kv_heads = 1, .head_dim = 2}; }},
    {"wide_heads", [](ModelConfig& c) { c.attention.head_dim = 66; }},
    {"biases", [](ModelConfig& c) { c.attention.qkv_bias = c.attention.output_bias = true; }},
    {"norm_per_head", [](ModelConfig& c) { c.attention.qk_norm = QkNorm::kPerHead; }},
    {"norm_whole_and_clip",
     [](ModelConfig& c) {
       c.attention.qk_norm = QkNorm::kFullProjection;
       c.attention.clip_qkv = 0.8f;
     }},
    {"shared_gated",
     [](ModelConfig& c) {
       c.shared_ffn_size = 51;
       c.shared_gate = true;
     }},
    {"shared_and_dense_layers",
     [](ModelConfig& c) {
       c.shared_ffn_size = 29;
       c.dense_ffn_size = 77;
       c.layers = {{.sparse = false}, {.sparse = true}, {.sparse = false}, {.sparse = true}};
     }},
    {"no_sparse_layer",
     [](ModelConfig& c) {
       c.dense_ffn_size = 40;
       c.router = {};
       c.expert_ffn_size = 0;
       c.layers = {{.sparse = false}, {.sparse = false}};
     }},
    {"sliding_window",
     [](ModelConfig& c) {
       c.layers = {{.sliding_window = 7}, {}, {.sliding_window = 16}};
     }},
    {"window_of_one",
     [](ModelConfig& c) {
       c.layers = {{.sliding_window = 1}, {.sliding_window = 17}};
     }},
    {"rope_linear", [](ModelConfig& c) { SetRope(c, RopeConfig::Scaling::kLinear); }},
    {"rope_llama3", [](ModelConfig& c) { SetRope(c, RopeConfig::Scaling::kLlama3); }},
    {"rope_yarn", [](ModelConfig& c) { SetRope(c, RopeConfig::Scaling::kYarn); }},
    {"tied", [](ModelConfig& c) { c.tied_embeddings = true; }},
    {"round_sizes",
     [](ModelConfig& c) {
       c.hidden_size = 64;
       c.vocab_size = 256;
       c.attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 16};
       c.expert_ffn_size = 96;
     }},
};

class RunnerVariantTest : public ::testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    ModelConfig config = testing::SmallModelConfig();
    GetParam().change(config);
    checkpoint_ = std::make_unique<RandomCheckpoint>(config, GetParam().dtype, 5);
  }

  std::unique_ptr<RandomCheckpoint> checkpoint_;
};

TEST_P(RunnerVariantTest, AgreesWithTheForwardPassInDouble) {
  const ModelConfig& config = checkpoint_->config();
  const std::vector<TokenId> tokens = RandomTokens(45, config.vocab_size, 6);
  const auto session = ModelSession::Create(*checkpoint_, WeightFormat::kF32, 3);
  ASSERT_TRUE(session.ok()) << session.status();
  const ModelSession::Sequence& actual = (*session)->Run(tokens);
  const F64Model::Result expected = F64Model(*checkpoint_, F64Model::Rounding::kNone).Run(tokens);
  EXPECT_LE((testing::Nmse<float, float>(actual.logits, expected.logits)), testing::kF32LogitsNmse);
  EXPECT_EQ(actual.experts, expected.experts);
  for (size_t layer = 0; layer < expected.weights.size(); ++layer) {
    EXPECT_LE((testing::Nmse<float, float>(actual.weights[layer], expected.weights[layer])),
              testing::kF32LogitsNmse);
  }
}

TEST_P(RunnerVariantTest, FormatsThatRoundStayWithinTheirBounds) {
  const ModelConfig& config = checkpoint_->config();
  const std::vector<TokenId> tokens = RandomTokens(45, config.vocab_size, 6);
  const F64Model::Result truth = F64Model(*checkpoint_, F64Model::Rounding::kNone).Run(tokens);
  for (const auto& [format, rounding] : {std::pair{WeightFormat::kBf16, F64Model::Rounding::kBf16},
                                         {WeightFormat::kInt8, F64Model::Rounding::kInt8},
                                         {WeightFormat::kInt4, F64Model::Rounding::kInt4}}) {
    const auto session = ModelSession::Create(*checkpoint_, format, 2);
    if (format == WeightFormat::kBf16 && absl::IsFailedPrecondition(session.status())) continue;
    ASSERT_TRUE(session.ok()) << session.status();
    const F64Model::Result simulated = F64Model(*checkpoint_, rounding).Run(tokens, &truth.experts);
    const ModelSession::Sequence& actual = (*session)->Run(tokens, &truth.experts);
    const double cost = testing::Nmse<float, float>(simulated.logits, truth.logits);
    const double error = testing::Nmse<float, float>(actual.logits, truth.logits);
    EXPECT_LE(error, testing::RoundedLogitsNmseBound(cost)) << kernels::NameOf(format);
    std::cout << kernels::NameOf(format) << ": NMSE " << error << ", simulated " << cost << "\n";
  }
}

// Prompts in chunks, answers and newcomers, all in the same steps, on one thread and on three:
// every logit has the bits that it has when its sequence runs alone.
TEST_P(RunnerVariantTest, TheBatchChangesNoBit) {
  const ModelConfig& config = checkpoint_->config();
  for (const WeightFormat format : kernels::kAllWeightFormats) {
    const auto alone = ModelSession::Create(*checkpoint_, format, 1);
    const auto together = ModelSession::Create(*checkpoint_, format, 3);
    if (format == WeightFormat::kBf16 && absl::IsFailedPrecondition(alone.status())) continue;
    ASSERT_TRUE(alone.ok() && together.ok()) << alone.status();
    constexpr int kSequences = 9;
    std::vector<std::vector<TokenId>> tokens;
    std::vector<ModelSession::Sequence*> sequences;
    for (int s = 0; s < kSequences; ++s) {
      tokens.push_back(RandomTokens(5 + 9 * s, config.vocab_size, s));
      sequences.push_back(&(*together)->Add());
    }
    for (bool more = true; more;) {
      std::vector<ModelSession::Part> parts;
      more = false;
      for (int s = 0; s < kSequences; ++s) {
        const size_t done = sequences[s]->tokens.size();
        const size_t count = std::min<size_t>(1 + s * 7 % 24, tokens[s].size() - done);
        if (count == 0) continue;
        more = true;
        parts.push_back(
            {sequences[s], {tokens[s].begin() + done, tokens[s].begin() + done + count}});
      }
      if (more) (*together)->Step(parts);
    }
    for (int s = 0; s < kSequences; ++s)
      EXPECT_TRUE(BitwiseEqual(sequences[s]->logits, (*alone)->Run(tokens[s]).logits))
          << kernels::NameOf(format) << ", sequence " << s;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RunnerVariantTest, ::testing::ValuesIn(kVariants),
                         [](const auto& param) { return param.param.name; });

class RunnerTest : public ::testing::Test {
 protected:
  RunnerTest() : checkpoint_(testing::SmallModelConfig(), DType::kF32, 1) {
    auto session = ModelSession::Create(checkpoint_, WeightFormat::kF32);
    EXPECT_TRUE(session.ok()) << session.status();
    session_ = *std::move(session);
  }

  RandomCheckpoint checkpoint_;
  std::unique_ptr<ModelSession> session_;
};

TEST_F(RunnerTest, ExpertLoadCountsExactlyWhatWasRouted) {
  const RouterConfig& router = checkpoint_.config().router;
  ModelSession::Sequence& one = session_->Add();
  ModelSession::Sequence& two = session_->Add();
  session_->Step({{&one, RandomTokens(20, 101, 1)}, {&two, RandomTokens(33, 101, 2)}});
  const ExpertStepLoad load = session_->runner().expert_load();
  EXPECT_EQ(load.num_tokens, 53);
  ASSERT_EQ(load.tokens.size(), 2 * router.num_experts);
  ASSERT_EQ(load.seconds.size(), 2);
  for (int layer = 0; layer < 2; ++layer) {
    EXPECT_GT(load.seconds[layer], 0);
    std::vector<int32_t> tokens(router.num_experts, 0);
    std::vector<double> weights(router.num_experts, 0);
    for (const ModelSession::Sequence* sequence : {&one, &two}) {
      for (size_t i = 0; i < sequence->experts[layer].size(); ++i) {
        ++tokens[sequence->experts[layer][i]];
        weights[sequence->experts[layer][i]] += sequence->weights[layer][i];
      }
    }
    double probability = 0;
    for (int e = 0; e < router.num_experts; ++e) {
      EXPECT_EQ(load.tokens[layer * router.num_experts + e], tokens[e]);
      EXPECT_NEAR(load.weights[layer * router.num_experts + e], weights[e], 1e-4);
      probability += load.probabilities[layer * router.num_experts + e];
    }
    EXPECT_NEAR(probability, 53, 1e-3);
  }
  // The next step starts from nothing.
  session_->Step({{&one, {5}}});
  const absl::Span<const int32_t> next = session_->runner().expert_load().tokens;
  EXPECT_EQ(std::accumulate(next.begin(), next.end(), 0), 2 * router.top_k);
}

TEST_F(RunnerTest, AnswersWhatEachSequenceAsksFor) {
  CpuModelRunner& runner = session_->runner();
  runner.set_observer(nullptr);
  const std::vector<TokenId> prompt = RandomTokens(40, 101, 3);
  const std::vector<BlockId> one = {0, 1, 2};
  const std::vector<BlockId> two = {3, 4, 5};
  const std::vector<BlockId> three = {6, 7, 8};
  const SamplingParams greedy;
  const absl::Span<const TokenId> tokens = prompt;
  const std::vector<SequenceStep> batch = {
      {.tokens = tokens, .block_table = one},
      {.tokens = tokens, .block_table = two, .sampling = &greedy, .logprobs = 3},
      {.tokens = tokens,
       .block_table = three,
       .sampling = &greedy,
       .targets = tokens.subspan(1),
       .prompt_logprobs = 2}};
  const absl::Span<const SequenceResult> results = runner.Run(batch);
  ASSERT_EQ(results.size(), 3);
  EXPECT_FALSE(results[0].token.has_value());
  EXPECT_TRUE(results[0].prompt_logprobs.empty());
  ASSERT_TRUE(results[1].token.has_value() && results[1].logprob.has_value());
  ASSERT_EQ(results[1].logprob->top.size(), 3);
  EXPECT_EQ(results[1].logprob->top[0].first, *results[1].token);
  EXPECT_EQ(results[2].token, results[1].token);
  EXPECT_FALSE(results[2].logprob.has_value());
  ASSERT_EQ(results[2].prompt_logprobs.size(), 39);

  // Against the logits themselves.
  const F64Model::Result truth = F64Model(checkpoint_, F64Model::Rounding::kNone).Run(prompt);
  for (int i = 0; i < 39; ++i) {
    const absl::Span<const float> logits = absl::MakeConstSpan(truth.logits).subspan(i * 101, 101);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(double{logit});
    const TokenLogprob& logprob = results[2].prompt_logprobs[i];
    EXPECT_EQ(logprob.token, prompt[i + 1]);
    EXPECT_NEAR(logprob.logprob, logits[prompt[i + 1]] - std::log(sum), 1e-3);
    EXPECT_EQ(logprob.top.size(), 2);
  }
}

TEST_F(RunnerTest, SamplingDoesNotDependOnTheBatch) {
  CpuModelRunner& runner = session_->runner();
  runner.set_observer(nullptr);
  const std::vector<TokenId> prompt = RandomTokens(10, 101, 3);
  const SamplingParams params = {.temperature = 2, .seed = 17};
  std::vector<std::vector<BlockId>> blocks;
  std::vector<SequenceStep> batch;
  for (int s = 0; s < 20; ++s) blocks.push_back({s});
  for (int s = 0; s < 20; ++s)
    batch.push_back({.tokens = prompt, .block_table = blocks[s], .sampling = &params});
  const TokenId alone = *runner.Run(absl::MakeConstSpan(batch).first(1))[0].token;
  for (const SequenceResult& result : runner.Run(batch)) EXPECT_EQ(result.token, alone);
}

// What the options change is the choice alone: log-probabilities stay the model's own.
TEST_F(RunnerTest, OptionsChangeTheTokenButNotTheLogprobs) {
  CpuModelRunner& runner = session_->runner();
  runner.set_observer(nullptr);
  const std::vector<TokenId> prompt = RandomTokens(10, 101, 4);
  const std::vector<BlockId> block = {0};
  const SamplingParams greedy;
  SequenceStep step = {.tokens = prompt,
                       .block_table = block,
                       .sampling = &greedy,
                       .history = prompt,
                       .num_prompt_tokens = 9,
                       .logprobs = 101};
  const TokenLogprob plain = *runner.Run({&step, 1})[0].logprob;
  const TokenId best = plain.token;
  std::map<TokenId, float> expected(plain.top.begin(), plain.top.end());

  const TokenId second = plain.top[1].first;
  const TokenId third = plain.top[2].first;
  const std::vector<TokenId> best_two = {best, second};
  struct Row {
    SamplingParams params;
    absl::Span<const TokenId> suppressed;
    TokenId want;
  };
  std::vector<TokenId> history = prompt;
  history.back() = best;
  const Row rows[] = {{{.logit_bias = {{best, -100}}}, {}, second},
                      {{}, best_two, third},
                      {{.presence_penalty = 100}, {}, second},
                      {{.logit_bias = {{7, 100}}}, {}, 7}};
  for (const Row& row : rows) {
    step.sampling = &row.params;
    step.suppressed = row.suppressed;
    step.history = history;
    const SequenceResult& result = runner.Run({&step, 1})[0];
    EXPECT_EQ(result.token, row.want);
    EXPECT_EQ(result.logprob->token, row.want);
    EXPECT_EQ(result.logprob->logprob, expected[row.want]);
    EXPECT_EQ(result.logprob->top, plain.top);
  }
}

TEST_F(RunnerTest, ReportsWhatItLoaded) {
  const CpuModelRunner::LoadInfo& info = session_->runner().load_info();
  const ModelConfig& config = checkpoint_.config();
  int64_t expected = 2 * config.vocab_size * config.hidden_size + config.hidden_size;
  const int64_t expert = 3 * config.hidden_size * config.expert_ffn_size;
  expected += 2 * (2 * config.hidden_size + 2 * 60 * config.hidden_size +
                   2 * 20 * config.hidden_size + 11 * config.hidden_size + 11 * expert);
  EXPECT_EQ(info.weights.parameters, expected);
  EXPECT_EQ(info.weights.active_parameters, expected - 2 * 8 * expert);
  EXPECT_GT(info.seconds, 0);
  EXPECT_FALSE(info.isa.empty());
  EXPECT_THAT(info.kernels, ::testing::Contains(::testing::HasSubstr("matmul f32: ")));
  EXPECT_EQ(info.num_kv_blocks, session_->runner().num_kv_blocks());
  std::vector<std::string> kinds;
  for (const auto& [kind, bytes] : info.weights.bytes) {
    kinds.push_back(kind);
    EXPECT_EQ(bytes > 0, kind != "shared" && kind != "dense") << kind;
  }
  EXPECT_THAT(kinds, ::testing::ElementsAre("attention", "experts", "shared", "dense", "router",
                                            "embedding", "lm_head", "norms"));
}

// Counted by hand for the small model: H 43, Q 60, KV 20 + 20, F 37, V 101, 11 experts, 2 layers.
TEST(WeightsTest, TakeTheBytesOfTheirFormat) {
  // Bytes of a block of 32 columns over K = 43, 60 and 37.
  struct Row {
    WeightFormat format;
    int64_t h, q, f;
  };
  const Row rows[] = {
      {WeightFormat::kF32, 43 * 128, 60 * 128, 37 * 128},
      {WeightFormat::kBf16, 44 * 64, 60 * 64, 38 * 64},
      {WeightFormat::kInt8, 64 * 32 + 256, 64 * 32 + 256, 64 * 32 + 256},
      {WeightFormat::kInt4, 2 * 576 + 128, 2 * 576 + 128, 2 * 576 + 128},
  };
  const RandomCheckpoint checkpoint(testing::SmallModelConfig(), DType::kF32, 1);
  base::ThreadPool pool({.num_threads = 2});
  for (const Row& row : rows) {
    SCOPED_TRACE(kernels::NameOf(row.format));
    const auto weights =
        Weights::Pack(checkpoint, {.format = row.format,
                                   .vector = &kernels::reference::ReferenceVectorOps(),
                                   .quantized = &kernels::reference::ReferenceQuantizedOps(),
                                   .pool = &pool});
    ASSERT_TRUE(weights.ok()) << weights.status();
    // q, k and v make 100 columns, o makes 43; gate and up 2 * 64, down 43.
    const int64_t attention = 2 * (4 * row.h + 2 * row.q);
    const int64_t experts = 2 * 11 * (4 * row.h + 2 * row.f);
    const int64_t router = 2 * 43 * 128;
    const int64_t embedding = 101 * 43 * 4;
    const int64_t lm_head = 4 * row.h;
    EXPECT_THAT(
        weights->size.bytes,
        ::testing::ElementsAre(std::pair{"attention", attention}, std::pair{"experts", experts},
                               std::pair{"shared", 0}, std::pair{"dense", 0},
                               std::pair{"router", router}, std::pair{"embedding", embedding},
                               std::pair{"lm_head", lm_head}, std::pair{"norms", 5 * 43 * 4}));
    // Norms are elsewhere; the embedding ends within a cache line.
    const int64_t packed = attention + experts + router + (embedding + 36) + lm_head;
    EXPECT_EQ(Weights::PackedBytes(checkpoint, row.format), packed);
    ASSERT_TRUE(weights->memory.has_value());
    EXPECT_EQ(weights->memory->taken(), packed);
    EXPECT_EQ(weights->layers[0].router.format(), WeightFormat::kF32);
    EXPECT_EQ(weights->lm_head.format(), row.format);
  }
}

TEST_F(RunnerTest, ImpossibleOptionsAreErrors) {
  const CpuModelRunner::Options good = {.kv_cache_bytes = 1 << 20};
  ASSERT_TRUE(CpuModelRunner::Create(checkpoint_, good).ok());
  void (*const changes[])(CpuModelRunner::Options&) = {
      [](CpuModelRunner::Options& o) { o.num_threads = 0; },
      [](CpuModelRunner::Options& o) { o.kv_cache_bytes = 100; },
      [](CpuModelRunner::Options& o) { o.max_step_tokens = 0; },
      [](CpuModelRunner::Options& o) { o.max_step_sequences = -1; },
  };
  for (const auto change : changes) {
    CpuModelRunner::Options options = good;
    change(options);
    EXPECT_EQ(CpuModelRunner::Create(checkpoint_, options).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

// Every variant, in every format that there are kernels for.
TEST(MemoryEstimateTest, KnowsTheWeightsBeforeTheyArePacked) {
  for (const Variant& variant : kVariants) {
    for (const WeightFormat format : kernels::kAllWeightFormats) {
      ModelConfig config = testing::SmallModelConfig();
      variant.change(config);
      const RandomCheckpoint checkpoint(config, variant.dtype, 1);
      const CpuModelRunner::Options options = {
          .weights = format, .kv_cache_bytes = 1 << 20, .max_step_tokens = 7};
      const MemoryEstimate estimate = EstimateMemory(checkpoint, options);
      auto runner = CpuModelRunner::Create(checkpoint, options);
      if (absl::IsFailedPrecondition(runner.status())) continue;
      ASSERT_TRUE(runner.ok()) << runner.status();
      int64_t bytes = 0;
      for (const auto& [kind, size] : (*runner)->load_info().weights.bytes) bytes += size;
      // Norms and biases are left out: here they are about a hundredth.
      EXPECT_LE(estimate.weights, bytes) << variant.name;
      EXPECT_GE(estimate.weights, bytes - bytes / 50) << variant.name;
      EXPECT_EQ(estimate.kv_cache, 1 << 20);
      EXPECT_GT(estimate.scratch, 0);
    }
  }
}

}  // namespace
}  // namespace sluice::model
