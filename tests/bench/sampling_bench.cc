// BM_Sampler_*: one token drawn from the logits of a large vocabulary. BM_Router_Choose: the
// experts of one token. BM_Embedding_Lookup: one token's vector. The label is the vector kernels'
// name.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <random>
#include <vector>

#include "kernels/kernel_set.h"
#include "model/router.h"
#include "model/sampler.h"
#include "model/weights.h"

namespace sluice {
namespace {

// Qwen3's.
constexpr int kVocabSize = 151936;

const kernels::VectorOps& Ops() {
  static const kernels::KernelSet* const kernels = [] {
    auto set = kernels::SelectKernels(kernels::WeightFormat::kF32);
    if (!set.ok()) {
      std::cerr << set.status() << "\n";
      std::exit(1);
    }
    return new kernels::KernelSet(*std::move(set));
  }();
  return *kernels->vector;
}

std::vector<float> Normal(size_t n, float deviation) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> x(n);
  for (float& value : x) value = normal(random);
  return x;
}

// Logits with a deviation of 3 put most of the probability on a few hundred tokens; with 1 it is
// spread over most of the vocabulary.
void BM_Sampler_Sample(benchmark::State& state, model::SamplingParams params, float deviation) {
  const std::vector<float> logits = Normal(kVocabSize, deviation);
  model::Sampler sampler(Ops(), kVocabSize);
  int64_t position = 0;
  for (auto _ : state) benchmark::DoNotOptimize(sampler.Sample(logits, params, position++));
  state.SetLabel(Ops().name);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(BM_Sampler_Sample, greedy, {}, 3);
BENCHMARK_CAPTURE(BM_Sampler_Sample, top_k_40, {.temperature = 1, .top_k = 40}, 3);
BENCHMARK_CAPTURE(BM_Sampler_Sample, top_k_40_top_p,
                  {.temperature = 0.7f, .top_k = 40, .top_p = 0.95f}, 3);
BENCHMARK_CAPTURE(BM_Sampler_Sample, top_p, {.temperature = 0.7f, .top_p = 0.95f}, 3);
BENCHMARK_CAPTURE(BM_Sampler_Sample, top_p_flat, {.temperature = 1, .top_p = 0.95f}, 1);
BENCHMARK_CAPTURE(BM_Sampler_Sample, temperature, {.temperature = 1}, 3);
BENCHMARK_CAPTURE(BM_Sampler_Sample, min_p, {.temperature = 1, .min_p = 0.05f}, 3);
BENCHMARK_CAPTURE(BM_Sampler_Sample, typical_p, {.temperature = 1, .typical_p = 0.9f}, 3);

// Bias of 300 tokens, and penalties for a history of range(0).
void BM_Sampler_Penalties(benchmark::State& state) {
  std::vector<float> logits = Normal(kVocabSize, 3);
  model::Sampler sampler(Ops(), kVocabSize);
  model::SamplingParams params = {
      .repetition_penalty = 1.1f, .presence_penalty = 0.5f, .frequency_penalty = 0.1f};
  for (int i = 0; i < 300; ++i) params.logit_bias.emplace_back(500 * i, 1.0f);
  std::vector<TokenId> history(state.range(0));
  for (size_t i = 0; i < history.size(); ++i) {
    history[i] = static_cast<TokenId>(i * 7919 % kVocabSize);
  }
  const model::DrawContext context = {.history = history, .num_prompt_tokens = state.range(0) / 2};
  for (auto _ : state) {
    benchmark::DoNotOptimize(sampler.Sample(absl::MakeSpan(logits), params, 0, context));
  }
  state.SetLabel(Ops().name);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Sampler_Penalties)->Arg(256)->Arg(4096);

void BM_Sampler_Logprob(benchmark::State& state) {
  const std::vector<float> logits = Normal(kVocabSize, 3);
  model::Sampler sampler(Ops(), kVocabSize);
  for (auto _ : state) benchmark::DoNotOptimize(sampler.Logprob(logits, 7, 20).logprob);
  state.SetLabel(Ops().name);
}
BENCHMARK(BM_Sampler_Logprob);

// Softmax and the top 8 of range(0) experts.
void BM_Router_Choose(benchmark::State& state) {
  constexpr int kTokens = 64;
  const size_t num_experts = state.range(0);
  const std::vector<float> logits = Normal(kTokens * num_experts, 1);
  std::vector<float> probabilities(num_experts);
  std::vector<int32_t> ids(8);
  size_t token = 0;
  for (auto _ : state) {
    std::memcpy(probabilities.data(), logits.data() + token++ % kTokens * num_experts,
                num_experts * sizeof(float));
    Ops().softmax(probabilities.data(), static_cast<int64_t>(num_experts));
    model::ChooseExperts(probabilities, absl::MakeSpan(ids));
    benchmark::DoNotOptimize(ids.data());
  }
  state.SetLabel(Ops().name);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Router_Choose)->Arg(64)->Arg(128)->Arg(256);

void BM_Embedding_Lookup(benchmark::State& state, kernels::ElementType type) {
  constexpr int64_t kTokens = 64;
  constexpr int64_t kSize = 2048;
  const std::vector<std::byte> rows(kTokens * kSize * BytesOf(type));
  const model::Embedding embedding = {type, kSize, rows.data()};
  std::vector<float> x(kSize);
  TokenId token = 0;
  for (auto _ : state) {
    embedding.Lookup(Ops(), token++ % kTokens, x.data());
    benchmark::DoNotOptimize(x.data());
  }
  state.SetLabel(Ops().name);
  state.SetBytesProcessed(state.iterations() * kSize * static_cast<int64_t>(BytesOf(type)));
}
BENCHMARK_CAPTURE(BM_Embedding_Lookup, f32, kernels::ElementType::kF32);
BENCHMARK_CAPTURE(BM_Embedding_Lookup, bf16, kernels::ElementType::kBf16);
BENCHMARK_CAPTURE(BM_Embedding_Lookup, f16, kernels::ElementType::kF16);

}  // namespace
}  // namespace sluice
