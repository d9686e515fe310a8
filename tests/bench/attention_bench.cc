// BM_Attention_Prefill: 512 rows of one sequence after a context; BM_Attention_Decode: one row of
// each of some sequences, with its keys and values written first. One layer after the other, whose
// caches lie in memory as a model's do. On one thread figures are of its processor time. Each names
// the kernel it ran, and reports operations and bytes of keys and values read a second.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/compute.h"
#include "model/attention.h"
#include "model/kv_cache.h"

namespace sluice {
namespace {

using kernels::KvFormat;

struct Heads {
  int heads;
  int kv_heads;
};
constexpr Heads kGrouped = {32, 4};     // as Qwen3-30B-A3B
constexpr Heads kMultiHead = {16, 16};  // as OLMoE

// An attention block of 128 channels a head over a cache of random numbers.
class AttentionBench {
 public:
  AttentionBench(benchmark::State& state, Heads heads, KvFormat format, int tokens, int sequences,
                 int64_t context, int threads)
      : pool_({.num_threads = threads, .pin = threads > 1}) {
    config_.hidden_size = 128;
    config_.attention = {.num_heads = heads.heads, .num_kv_heads = heads.kv_heads, .head_dim = 128};
    config_.layers.resize(format == KvFormat::kBf16 ? 24 : 12);
    auto kernels = kernels::SelectKernels(kernels::WeightFormat::kF32);
    if (!kernels.ok()) {
      state.SkipWithError("no such kernel here");
      return;
    }
    kernels_ = std::make_unique<kernels::KernelSet>(*std::move(kernels));
    state.SetLabel(kernels_->attention->name);
    compute_ = std::make_unique<kernels::Compute>(
        *kernels_, pool_, kernels::Compute::Limits{.max_rows = 512, .max_k = 4096});
    const auto shape = model::KvCache::Shape::Of(config_, format);
    const int64_t blocks_each = (context + tokens + model::kKvBlockTokens - 1) / 16;
    cache_ = std::make_unique<model::KvCache>(
        *model::KvCache::Create(shape, sequences * blocks_each * shape.block_bytes()));
    attention_ = std::make_unique<model::Attention>(
        *model::Attention::Create(config_, *compute_, *cache_, context + tokens, 512, sequences));
    std::mt19937 random(1);
    std::vector<model::BlockId> blocks(cache_->num_blocks());
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), random);
    for (int s = 0; s < sequences; ++s)
      tables_.emplace_back(blocks.begin() + s * blocks_each,
                           blocks.begin() + (s + 1) * blocks_each);
    token_ids_.resize(tokens);
    const int64_t qkv = int64_t{heads.heads + 2 * heads.kv_heads} * 128;
    qkv_.resize(512 * qkv);
    for (float& x : qkv_) x = static_cast<float>(random() % 1000) / 500 - 1;
    out_.resize(512 * int64_t{heads.heads} * 128);
    // Fill the cache, with the same keys and values again and again.
    for (int64_t first = 0; first < context; first += 512) {
      for (int s = 0; s < sequences; ++s) {
        std::vector<TokenId> ids(std::min<int64_t>(512, context - first));
        const model::SequenceStep step = {
            .tokens = ids, .first_position = first, .block_table = tables_[s]};
        batch_.Assign({&step, 1});
        attention_->BeginStep(batch_);
        for (int layer = 0; layer < config_.num_layers(); ++layer)
          attention_->StoreKeysAndValues(layer, weights_, std::vector<float>(qkv_).data());
      }
    }
    for (int s = 0; s < sequences; ++s) {
      steps_.push_back(
          {.tokens = token_ids_, .first_position = context, .block_table = tables_[s]});
    }
    batch_.Assign(steps_);
    attention_->BeginStep(batch_);
    // What each query sees, and what each head reads at least once.
    const double seen = static_cast<double>(context) + (tokens + 1) / 2.0;
    operations_ = 4.0 * 128 * heads.heads * seen * tokens * sequences;
    bytes_ = static_cast<double>(shape.layer_bytes()) / 16 *
             static_cast<double>((context + tokens) * sequences);
  }

  void Run(benchmark::State& state) {
    if (compute_ == nullptr) return;
    int layer = 0;
    for (auto _ : state) {
      layer = (layer + 1) % config_.num_layers();
      attention_->StoreKeysAndValues(layer, weights_, qkv_.data());
      attention_->Attend(layer, qkv_.data(), out_.data());
      benchmark::DoNotOptimize(out_.data());
    }
    const double iterations = static_cast<double>(state.iterations());
    state.counters["FLOP/s"] = {operations_ * iterations, benchmark::Counter::kIsRate};
    state.counters["kv_bytes/s"] = {bytes_ * iterations, benchmark::Counter::kIsRate};
  }

 private:
  base::ThreadPool pool_;
  model::ModelConfig config_;
  model::LayerWeights weights_;
  std::unique_ptr<kernels::KernelSet> kernels_;
  std::unique_ptr<kernels::Compute> compute_;
  std::unique_ptr<model::KvCache> cache_;
  std::unique_ptr<model::Attention> attention_;
  std::vector<std::vector<model::BlockId>> tables_;
  std::vector<TokenId> token_ids_;
  std::vector<model::SequenceStep> steps_;
  model::StepBatch batch_;
  std::vector<float> qkv_;
  std::vector<float> out_;
  double operations_ = 0;
  double bytes_ = 0;
};

void BM_Attention_Prefill(benchmark::State& state, Heads heads, KvFormat format, int threads) {
  AttentionBench(state, heads, format, 512, 1, state.range(0), threads).Run(state);
}
void BM_Attention_Decode(benchmark::State& state, Heads heads, KvFormat format, int threads) {
  AttentionBench(state, heads, format, 1, static_cast<int>(state.range(1)), state.range(0), threads)
      .Run(state);
}

void Contexts(benchmark::internal::Benchmark* prefill, benchmark::internal::Benchmark* decode) {
  prefill->ArgName("context")->Arg(0)->Arg(4096)->Unit(benchmark::kMillisecond);
  decode->ArgNames({"context", "sequences"})
      ->ArgsProduct({{128, 1000, 4096}, {1, 8}})
      ->Unit(benchmark::kMicrosecond);
}

void Register(const std::string& name, Heads heads, KvFormat format) {
  for (const int threads : {1, 2}) {
    const std::string suffix = "/" + name + "/threads:" + std::to_string(threads);
    benchmark::internal::Benchmark* const prefill = benchmark::RegisterBenchmark(
        ("BM_Attention_Prefill" + suffix).c_str(), BM_Attention_Prefill, heads, format, threads);
    benchmark::internal::Benchmark* const decode = benchmark::RegisterBenchmark(
        ("BM_Attention_Decode" + suffix).c_str(), BM_Attention_Decode, heads, format, threads);
    Contexts(prefill, decode);
    if (threads == 1) continue;
    prefill->UseRealTime();
    decode->UseRealTime();
  }
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  using sluice::kernels::KvFormat;
  sluice::Register("grouped_bf16", sluice::kGrouped, KvFormat::kBf16);
  sluice::Register("grouped_f32", sluice::kGrouped, KvFormat::kF32);
  sluice::Register("multi_head_bf16", sluice::kMultiHead, KvFormat::kBf16);
  sluice::Register("multi_head_f32", sluice::kMultiHead, KvFormat::kF32);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
