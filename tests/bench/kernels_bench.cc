// BM_Matmul_*: products out of memory and out of cache; BM_Experts_Run: a sparse layer's networks.
// Each names the kernel it ran and reports weights read and operations a second.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/compute.h"
#include "model/feed_forward.h"
#include "model/weights.h"
#include "support/random_checkpoint.h"

namespace sluice {
namespace {

using kernels::WeightFormat;

void ReportRates(benchmark::State& state, double weight_bytes, double operations) {
  const double iterations = static_cast<double>(state.iterations());
  state.counters["weights_bytes/s"] = {weight_bytes * iterations, benchmark::Counter::kIsRate};
  state.counters["FLOP/s"] = {operations * iterations, benchmark::Counter::kIsRate};
}

// One [rows, size] x [size, size] product on one thread. Several matrices in turn keep the weights
// out of the caches, as in a model.
void BM_Matmul(benchmark::State& state, WeightFormat format) {
  const int64_t rows = state.range(0);
  const int64_t size = 2048;
  const int kMatrices = 8;
  auto kernels = kernels::SelectKernels(format);
  if (!kernels.ok() || !kernels->matmul(format).Prepare(size).ok()) {
    state.SkipWithError("no such kernel here");
    return;
  }
  base::ThreadPool pool({.num_threads = 1});
  kernels::Compute compute(*kernels, pool, {.max_rows = rows, .max_k = size});
  const std::vector<float> w(size * size, 0.01f);
  const kernels::SourceView source = {kernels::ElementType::kF32, size, size,
                                      reinterpret_cast<const std::byte*>(w.data())};
  std::vector<kernels::PackedMatrix> matrices;
  for (int i = 0; i < kMatrices; ++i)
    matrices.push_back(kernels::PackedMatrix::Pack(format, {source}, pool));
  const std::vector<float> x(rows * size, 0.5f);
  std::vector<float> y(rows * size);
  size_t next = 0;
  for (auto _ : state) {
    compute.Matmul(x.data(), rows, matrices[next++ % kMatrices], {}, y.data());
    benchmark::DoNotOptimize(y.data());
  }
  state.SetLabel(std::string(kernels->matmul(format).name()));
  ReportRates(state, static_cast<double>(matrices[0].bytes()),
              2.0 * static_cast<double>(rows * size * size));
}
BENCHMARK_CAPTURE(BM_Matmul, f32, WeightFormat::kF32)->Arg(1)->Arg(8)->Arg(32)->Arg(128);
BENCHMARK_CAPTURE(BM_Matmul, bf16, WeightFormat::kBf16)->Arg(1)->Arg(8)->Arg(32)->Arg(128);

// 32 experts of 512 x 768, four for each token, on two threads.
void BM_Experts_Run(benchmark::State& state, WeightFormat format) {
  const int64_t num_tokens = state.range(0);
  model::ModelConfig config = testing::SmallModelConfig();
  config.hidden_size = 512;
  config.expert_ffn_size = 768;
  config.router = {.num_experts = 32, .top_k = 4};
  config.layers.resize(1);
  auto kernels = kernels::SelectKernels(format);
  if (!kernels.ok() || !kernels->matmul(format).Prepare(512).ok() ||
      !kernels->matmul(format).Prepare(768).ok()) {
    state.SkipWithError("no such kernel here");
    return;
  }
  base::ThreadPool pool({.num_threads = 2});
  kernels::Compute compute(*kernels, pool, {.max_rows = num_tokens, .max_k = 768});
  const testing::RandomCheckpoint checkpoint(config, model::DType::kF32, 1);
  const model::Weights weights = model::Weights::Pack(checkpoint, format, pool);
  model::FeedForward feed_forward(config, compute, format, num_tokens);
  std::vector<int32_t> experts;
  for (int64_t i = 0; i < 4 * num_tokens; ++i) experts.push_back(static_cast<int32_t>(i * 5 % 32));
  const std::vector<float> route_weights(experts.size(), 0.25f);
  const std::vector<float> x(num_tokens * 512, 0.5f);
  std::vector<float> y(num_tokens * 512, 0);
  for (auto _ : state) {
    feed_forward.RunExperts(weights.layers[0], {experts, route_weights}, x.data(), num_tokens,
                            y.data());
    benchmark::DoNotOptimize(y.data());
  }
  state.SetLabel(std::string(kernels->matmul(format).name()));
  const double expert_bytes = 3.0 * 512 * 768 * static_cast<double>(kernels::BytesOf(format));
  ReportRates(state, expert_bytes * static_cast<double>(std::min<int64_t>(32, 4 * num_tokens)),
              2.0 * 3 * 512 * 768 * 4 * static_cast<double>(num_tokens));
  state.counters["tokens/s"] = {static_cast<double>(num_tokens * state.iterations()),
                                benchmark::Counter::kIsRate};
}
BENCHMARK_CAPTURE(BM_Experts_Run, f32, WeightFormat::kF32)
    ->Arg(1)
    ->Arg(24)
    ->Arg(256)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_Experts_Run, bf16, WeightFormat::kBf16)
    ->Arg(1)
    ->Arg(24)
    ->Arg(256)
    ->UseRealTime();

}  // namespace
}  // namespace sluice
