// Each kernel against its reference, and the products that the engine makes of them. Every line
// names the kernel that ran and reports bytes and operations a second.
//
//   BM_Tile_Multiply    one block of 32 columns with M rows, out of memory and out of cache
//   BM_Matmul_Run       a whole matrix with M rows on one thread, by the kernel and the reference
//   BM_Router_Run       the scores of 128 experts on two threads, with weights in f32 and in int8
//   BM_Experts_Run      a sparse layer's networks on two threads
//   BM_Matrix_Pack      packing: bytes of the bf16 source a second
//   BM_Vector_*         each function of VectorOps, in every implementation that runs here
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/arena.h"
#include "base/mapped_memory.h"
#include "kernels/compute.h"
#include "kernels/onednn_brgemm.h"
#include "kernels/packed_matrix.h"
#include "kernels/reference.h"
#include "kernels/vector_tile_kernel.h"
#include "model/feed_forward.h"
#include "model/weights.h"
#include "support/random_checkpoint.h"

namespace sluice {
namespace {

using kernels::WeightFormat;

constexpr int64_t kSize = 2048;  // K and N
constexpr int64_t kMemoryBytes = 128 << 20;
// Fits into the second-level cache beside the activations.
constexpr int64_t kCacheBytes = 256 << 10;

void ReportRates(benchmark::State& state, double bytes, double operations) {
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["bytes/s"] = {bytes * iterations, benchmark::Counter::kIsRate};
  if (operations > 0)
    state.counters["FLOP/s"] = {operations * iterations, benchmark::Counter::kIsRate};
}

// The kernels for a format, forced to a tier if that is not empty, and enough weights to be out of
// every cache. Made once for all benchmarks.
struct Engine {
  kernels::KernelSet kernels;
  base::Arena memory;
  std::vector<kernels::PackedMatrix> matrices;  // [kSize, kSize]

  int64_t num_blocks() const {
    return static_cast<int64_t>(matrices.size()) * matrices[0].num_blocks();
  }
  const std::byte* block(int64_t index) const {
    return matrices[index / matrices[0].num_blocks()].block(index % matrices[0].num_blocks());
  }
};

// Null where there are no such kernels. From any thread.
const Engine* EngineFor(WeightFormat format, const std::string& tier) {
  static std::mutex mutex;
  static auto& engines =
      *new std::map<std::pair<WeightFormat, std::string>, std::unique_ptr<Engine>>();
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [at, is_new] = engines.try_emplace({format, tier});
  if (!is_new) return at->second.get();
  auto kernels = kernels::SelectKernels(format, tier);
  if (!kernels.ok() || !kernels->matmul(format).Prepare(kSize).ok()) return nullptr;
  const int64_t matrix_bytes = kernels::PackedMatrix::ArenaBytes(format, kSize, kSize);
  const int64_t num_matrices = (kMemoryBytes + matrix_bytes - 1) / matrix_bytes;
  auto memory = base::Arena::Reserve(num_matrices * matrix_bytes, base::MappedMemory::Pages::kHuge);
  if (!memory.ok()) return nullptr;
  auto engine = std::make_unique<Engine>(Engine{*std::move(kernels), *std::move(memory), {}});
  base::ThreadPool pool({.num_threads = 1});
  const std::vector<float> w(kSize * kSize, 0.01f);
  const kernels::SourceView source = {kernels::ElementType::kF32, kSize, kSize,
                                      reinterpret_cast<const std::byte*>(w.data())};
  for (int64_t i = 0; i < num_matrices; ++i) {
    engine->matrices.push_back(kernels::PackedMatrix::Pack({.format = format,
                                                            .vector = engine->kernels.vector,
                                                            .quantized = engine->kernels.quantized,
                                                            .pool = &pool,
                                                            .arena = &engine->memory},
                                                           {source}));
  }
  at->second = std::move(engine);
  return at->second.get();
}

// More than kTileRows rows are several tiles, one after the other on the same block. Threads share
// the weights out of memory, each with a stretch of its own.
// With `router`, f32 by that table's kernel.
void BM_Tile_Multiply(benchmark::State& state, WeightFormat format, bool in_cache,
                      const kernels::VectorOps* router = nullptr) {
  const int64_t rows = state.range(0);
  const Engine* engine = EngineFor(format, "");
  if (engine == nullptr) {
    state.SkipWithError("no such kernel here");
    return;
  }
  kernels::InitComputeThread();
  base::ThreadPool pool({.num_threads = 1});
  kernels::Compute compute(engine->kernels, pool, {.max_rows = rows, .max_k = kSize});
  const std::unique_ptr<kernels::TileKernel> router_kernel =
      router == nullptr ? nullptr : kernels::MakeVectorTileKernel(*router);
  const kernels::TileKernel& kernel =
      router == nullptr ? engine->kernels.matmul(format) : *router_kernel;
  const std::vector<float> x(rows * kSize, 0.5f);
  const kernels::Activations a = compute.Convert(format, x.data(), rows, kSize);
  kernels::Compute::Thread& scratch = compute.thread(0);
  const int64_t block_bytes = engine->matrices[0].bytes() / engine->matrices[0].num_blocks();
  const int64_t mine = engine->num_blocks() / state.threads();
  const int64_t first = mine * state.thread_index();
  const int64_t count = in_cache ? std::max<int64_t>(1, kCacheBytes / block_bytes) : mine;
  int64_t block = 0;
  for (auto _ : state) {
    for (int64_t row = 0; row < rows; row += kernels::kTileRows) {
      const int m = static_cast<int>(std::min<int64_t>(kernels::kTileRows, rows - row));
      kernel.Multiply(m, kSize, a.row(row), engine->block(first + block), scratch.tile.data(),
                      scratch.kernel.data());
      benchmark::ClobberMemory();
    }
    if (++block == count) block = 0;
  }
  state.SetLabel(std::string(kernel.name()));
  ReportRates(state, static_cast<double>(block_bytes),
              2.0 * static_cast<double>(rows * kSize * kernels::kBlockColumns));
}

void BM_Matmul_Run(benchmark::State& state, WeightFormat format, const std::string& tier) {
  const int64_t rows = state.range(0);
  const Engine* engine = EngineFor(format, tier);
  if (engine == nullptr) {
    state.SkipWithError("no such kernel here");
    return;
  }
  kernels::InitComputeThread();
  base::ThreadPool pool({.num_threads = 1});
  kernels::Compute compute(engine->kernels, pool, {.max_rows = rows, .max_k = kSize});
  const std::vector<float> x(rows * kSize, 0.5f);
  std::vector<float> y(rows * kSize);
  size_t next = 0;
  for (auto _ : state) {
    compute.Matmul(x.data(), rows, engine->matrices[next++ % engine->matrices.size()], {},
                   y.data());
    benchmark::DoNotOptimize(y.data());
  }
  state.SetLabel(std::string(engine->kernels.matmul(format).name()));
  ReportRates(state, static_cast<double>(engine->matrices[0].bytes()),
              2.0 * static_cast<double>(rows * kSize * kSize));
}

// Routers of many layers in turn: each comes from memory, as between the layers of a model.
void BM_Router_Run(benchmark::State& state, WeightFormat weights) {
  constexpr int64_t kExperts = 128;
  const int64_t rows = state.range(0);
  auto kernels = kernels::SelectKernels(weights, "");
  if (!kernels.ok() || !kernels->f32->Prepare(kSize).ok()) {
    state.SkipWithError("no such kernel here");
    return;
  }
  kernels::InitComputeThread();
  base::ThreadPool pool(
      {.num_threads = 2, .on_thread_start = [](int) { kernels::InitComputeThread(); }});
  kernels::Compute compute(*kernels, pool, {.max_rows = rows, .max_k = kSize});
  auto memory = base::Arena::Reserve(kMemoryBytes, base::MappedMemory::Pages::kHuge);
  if (!memory.ok()) {
    state.SkipWithError("no memory");
    return;
  }
  const std::vector<float> w(kExperts * kSize, 0.01f);
  const kernels::SourceView source = {kernels::ElementType::kF32, kExperts, kSize,
                                      reinterpret_cast<const std::byte*>(w.data())};
  std::vector<kernels::PackedMatrix> routers;
  const int64_t bytes = kernels::PackedMatrix::ArenaBytes(WeightFormat::kF32, kExperts, kSize);
  for (int64_t i = 0; i < kMemoryBytes / bytes; ++i) {
    routers.push_back(kernels::PackedMatrix::Pack(
        {.vector = kernels->vector, .pool = &pool, .arena = &*memory}, {source}));
  }
  const std::vector<float> x(rows * kSize, 0.5f);
  std::vector<float> y(rows * kExperts);
  size_t next = 0;
  for (auto _ : state) {
    compute.Matmul(x.data(), rows, routers[next++ % routers.size()], {}, y.data());
    benchmark::DoNotOptimize(y.data());
  }
  state.SetLabel(std::string(kernels->f32->name()));
  ReportRates(state, static_cast<double>(bytes),
              2.0 * static_cast<double>(rows * kExperts * kSize));
}

// 32 experts of 512 x 768, four for each token.
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
  const auto packed = model::Weights::Pack(checkpoint, {.format = format,
                                                        .vector = kernels->vector,
                                                        .quantized = kernels->quantized,
                                                        .pool = &pool});
  if (!packed.ok()) {
    state.SkipWithError("no memory");
    return;
  }
  const model::Weights& weights = *packed;
  model::FeedForward feed_forward(config, compute, num_tokens);
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
  const model::FfnWeights& expert = weights.layers[0].experts[0];
  const auto expert_bytes = static_cast<double>(expert.gate_up.bytes() + expert.down.bytes());
  ReportRates(state, expert_bytes * static_cast<double>(std::min<int64_t>(32, 4 * num_tokens)),
              2.0 * 3 * 512 * 768 * 4 * static_cast<double>(num_tokens));
  state.counters["tokens/s"] = {static_cast<double>(num_tokens * state.iterations()),
                                benchmark::Counter::kIsRate};
}

// Into memory that was not touched before, as at load.
void BM_Matrix_Pack(benchmark::State& state, WeightFormat format) {
  const auto kernels = kernels::SelectKernels(format, "");
  if (!kernels.ok()) {
    state.SkipWithError("no such kernel here");
    return;
  }
  base::ThreadPool pool({.num_threads = static_cast<int>(state.range(0))});
  std::vector<uint16_t> w(kSize * kSize);
  for (size_t i = 0; i < w.size(); ++i)
    w[i] = kernels::Bf16FromFloat(std::sin(static_cast<float>(i)));
  const kernels::SourceView source = {kernels::ElementType::kBf16, kSize, kSize,
                                      reinterpret_cast<const std::byte*>(w.data())};
  for (auto _ : state) {
    auto memory = base::Arena::Reserve(kernels::PackedMatrix::ArenaBytes(format, kSize, kSize),
                                       base::MappedMemory::Pages::kHuge);
    if (!memory.ok()) {
      state.SkipWithError("no memory");
      return;
    }
    const kernels::PackedMatrix matrix =
        kernels::PackedMatrix::Pack({.format = format,
                                     .vector = kernels->vector,
                                     .quantized = kernels->quantized,
                                     .pool = &pool,
                                     .arena = &*memory},
                                    {source});
    benchmark::DoNotOptimize(matrix.block(0));
  }
  ReportRates(state, 2.0 * kSize * kSize, 0);
}

// One call of each function of a table, over `n` elements.
struct VectorCall {
  const char* name;
  double bytes;  // read and written for each element
  std::function<void(const kernels::VectorOps&, std::vector<float>& x, const std::vector<float>& w,
                     std::vector<float>& y)>
      run;
};

std::vector<VectorCall> VectorCalls() {
  using Ops = kernels::VectorOps;
  using V = std::vector<float>;
  const auto n = [](const V& x) { return static_cast<int64_t>(x.size()); };
  return {
      {"Dot", 8,
       [=](const Ops& ops, V& x, const V& w, V&) {
         benchmark::DoNotOptimize(ops.dot(x.data(), w.data(), n(x)));
       }},
      {"RmsNorm", 12,
       [=](const Ops& ops, V& x, const V& w, V& y) {
         ops.rms_norm(x.data(), w.data(), 1e-6f, y.data(), n(x));
       }},
      {"SiluMul", 12,
       [=](const Ops& ops, V& x, const V& w, V& y) {
         ops.silu_mul(x.data(), w.data(), y.data(), n(x));
       }},
      {"Softmax", 8, [=](const Ops& ops, V& x, const V&, V&) { ops.softmax(x.data(), n(x)); }},
      {"AddScaled", 12,
       [=](const Ops& ops, V& x, const V&, V& y) {
         ops.add_scaled(0.5f, x.data(), y.data(), n(x));
       }},
      {"Scale", 8,
       [=](const Ops& ops, V& x, const V&, V& y) { ops.scale(0.5f, x.data(), y.data(), n(x)); }},
      // By the angle of the triangle of 3, 4 and 5: again and again, and the numbers keep their
      // size.
      {"Rotate", 12,
       [=](const Ops& ops, V& x, const V& w, V& y) {
         ops.rotate(x.data(), w.data(), y.data(), n(x) / 2);
       }},
      {"ToBf16", 6,
       [=](const Ops& ops, V& x, const V&, V& y) {
         ops.to_bf16(x.data(), reinterpret_cast<uint16_t*>(y.data()), n(x));
       }},
  };
}

void BM_Vector_Run(benchmark::State& state, const kernels::VectorOps& ops, const VectorCall& call) {
  const int64_t size = state.range(0);
  std::vector<float> x(size, 0.5f);
  const std::vector<float> w(size, 0.6f);
  std::vector<float> y(size, 0.8f);
  for (auto _ : state) {
    call.run(ops, x, w, y);
    benchmark::ClobberMemory();
  }
  state.SetLabel(ops.name);
  ReportRates(state, call.bytes * static_cast<double>(size), 0);
}

std::vector<const kernels::VectorOps*> VectorTables() {
  std::vector<const kernels::VectorOps*> tables = {&kernels::reference::ReferenceVectorOps()};
  if (__builtin_cpu_supports("avx2")) tables.push_back(kernels::Avx2VectorOps());
  if (__builtin_cpu_supports("avx512f")) tables.push_back(kernels::Avx512VectorOps());
  tables.erase(std::remove(tables.begin(), tables.end(), nullptr), tables.end());
  return tables;
}

template <typename Run>
benchmark::internal::Benchmark* Register(const std::string& name, Run run) {
  return benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime();
}

void RegisterBenchmarks() {
  for (const WeightFormat f : kernels::kAllWeightFormats) {
    const std::string suffix = std::string("/") + kernels::NameOf(f);
    for (const bool in_cache : {false, true}) {
      auto* tile = Register("BM_Tile_Multiply" + suffix + (in_cache ? "/cache" : "/memory"),
                            [=](benchmark::State& state) { BM_Tile_Multiply(state, f, in_cache); });
      tile->ArgName("M")->Threads(2);
      for (const int m : {1, 4, 8, 16, 32, 64}) tile->Arg(m);
    }
    Register("BM_Matmul_Run" + suffix,
             [=](benchmark::State& state) { BM_Matmul_Run(state, f, ""); })
        ->ArgName("M")
        ->Arg(1)
        ->Arg(8)
        ->Arg(32)
        ->Arg(128);
    Register("BM_Matmul_Run" + suffix + "/reference",
             [=](benchmark::State& state) { BM_Matmul_Run(state, f, "reference"); })
        ->ArgName("M")
        ->Arg(1)
        ->Arg(8);
    Register("BM_Experts_Run" + suffix, [=](benchmark::State& state) { BM_Experts_Run(state, f); })
        ->ArgName("tokens")
        ->Arg(1)
        ->Arg(24)
        ->Arg(256);
    Register("BM_Matrix_Pack" + suffix, [=](benchmark::State& state) { BM_Matrix_Pack(state, f); })
        ->ArgName("threads")
        ->Arg(1)
        ->Arg(2);
  }
  for (const WeightFormat weights : {WeightFormat::kF32, WeightFormat::kInt8}) {
    auto* router = Register(std::string("BM_Router_Run/") + kernels::NameOf(weights),
                            [=](benchmark::State& state) { BM_Router_Run(state, weights); });
    router->ArgName("M");
    for (const int m : {1, 8, 32, 128}) router->Arg(m);
  }
  for (const kernels::VectorOps* ops : VectorTables()) {
    for (const bool in_cache : {false, true}) {
      auto* tile = Register(std::string("BM_Tile_Multiply/f32/router_") + ops->name +
                                (in_cache ? "/cache" : "/memory"),
                            [=](benchmark::State& state) {
                              BM_Tile_Multiply(state, WeightFormat::kF32, in_cache, ops);
                            });
      tile->ArgName("M")->Threads(2);
      for (const int m : {1, 4, 8, 16, 32, 64}) tile->Arg(m);
    }
  }
  for (const VectorCall& call : VectorCalls()) {
    for (const kernels::VectorOps* ops : VectorTables()) {
      Register(std::string("BM_Vector_") + call.name + "/" + ops->name,
               [=](benchmark::State& state) { BM_Vector_Run(state, *ops, call); })
          ->ArgName("n")
          ->Arg(128)
          ->Arg(2048);
    }
  }
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  sluice::RegisterBenchmarks();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
