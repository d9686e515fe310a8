// BM_ExpertLoad_*: what counting costs the engine, alone and while somebody reads all the time.
// BM_Metrics_*: what a scrape and the page's figures cost whoever asks. Layers x experts: the demo
// model, Qwen3-30B-A3B, DeepSeek-V3 (61 layers).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "metrics/server_metrics.h"
#include "web/experts_json.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

// A step of `num_tokens` through L layers of E experts, of which each token takes 8, or all.
class Step {
 public:
  Step(int num_layers, int num_experts, int64_t num_tokens)
      : num_tokens_(num_tokens),
        tokens_(static_cast<size_t>(num_layers) * num_experts),
        weights_(tokens_.size()),
        probabilities_(tokens_.size()),
        seconds_(num_layers, 0.001) {
    std::mt19937 random(7);
    std::uniform_int_distribution<int> expert(0, num_experts - 1);
    for (int layer = 0; layer < num_layers; ++layer) {
      for (int64_t i = 0; i < num_tokens * std::min(8, num_experts); ++i) {
        const size_t at = static_cast<size_t>(layer) * num_experts + expert(random);
        ++tokens_[at];
        weights_[at] += 0.125f;
        probabilities_[at] += 0.125f;
      }
    }
  }

  metrics::ExpertStep view() const {
    return {num_tokens_, tokens_, weights_, probabilities_, seconds_};
  }

 private:
  int64_t num_tokens_;
  std::vector<int32_t> tokens_;
  std::vector<float> weights_;
  std::vector<float> probabilities_;
  std::vector<double> seconds_;
};

std::vector<int> Layers(int num_layers) {
  std::vector<int> layers(num_layers);
  std::iota(layers.begin(), layers.end(), 0);
  return layers;
}

void Shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"layers", "experts"})->Args({6, 8})->Args({48, 128})->Args({61, 256});
}

// range(2) tokens; all but the counting is done before.
void BM_ExpertLoad_Publish(benchmark::State& state) {
  const auto num_layers = static_cast<int>(state.range(0));
  const auto num_experts = static_cast<int>(state.range(1));
  metrics::ExpertLoad load(Layers(num_layers), num_experts, 8);
  const Step step(num_layers, num_experts, state.range(2));
  for (int i = 0; i < metrics::ExpertLoad::kWindowSteps; ++i) load.Publish(step.view());
  for (auto _ : state) load.Publish(step.view());
}
BENCHMARK(BM_ExpertLoad_Publish)
    ->ArgNames({"layers", "experts", "tokens"})
    ->ArgsProduct({{6}, {8}, {1, 64}})
    ->ArgsProduct({{48}, {128}, {1, 64}})
    ->ArgsProduct({{61}, {256}, {1, 64}})
    ->Unit(benchmark::kMicrosecond);

// The same while a thread copies without a pause. worst_us: the longest of all steps, in which the
// engine may have lost its processor, but never waits for the reader.
void BM_ExpertLoad_PublishWhileRead(benchmark::State& state) {
  const auto num_layers = static_cast<int>(state.range(0));
  const auto num_experts = static_cast<int>(state.range(1));
  metrics::ExpertLoad load(Layers(num_layers), num_experts, 8);
  const Step step(num_layers, num_experts, 1);
  std::atomic<bool> done{false};
  std::atomic<int64_t> reads{0};
  std::thread reader([&] {
    while (!done) {
      benchmark::DoNotOptimize(load.Read());
      ++reads;
    }
  });
  Clock::duration worst{};
  for (auto _ : state) {
    const auto start = Clock::now();
    load.Publish(step.view());
    const auto end = Clock::now();
    worst = std::max(worst, end - start);
    // A step's other work, much shortened.
    while (Clock::now() < end + std::chrono::microseconds(500)) {
    }
    state.SetIterationTime(std::chrono::duration<double>(end - start).count());
  }
  done = true;
  reader.join();
  state.counters["worst_us"] = std::chrono::duration<double, std::micro>(worst).count();
  state.counters["reads"] = static_cast<double>(reads);
}
BENCHMARK(BM_ExpertLoad_PublishWhileRead)
    ->Apply(Shapes)
    ->UseManualTime()
    ->Iterations(2000)
    ->Unit(benchmark::kMicrosecond);

// A server that has run for a while.
class Served {
 public:
  explicit Served(const benchmark::State& state)
      : metrics_({.version = "bench"}),
        load_(metrics_.AddExpertLoad(Layers(static_cast<int>(state.range(0))),
                                     static_cast<int>(state.range(1)), 8,
                                     metrics::ExpertMetrics::kPerExpert)) {
    metrics_.Engine(load_);
    metrics_.SetModel({.name = "bench"});
    const Step step(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)), 512);
    for (int i = 0; i < 200; ++i) load_.Publish(step.view());
  }

  const metrics::ServerMetrics& metrics() const { return metrics_; }
  const metrics::ExpertLoad& load() const { return load_; }

 private:
  metrics::ServerMetrics metrics_;
  metrics::ExpertLoad& load_;
};

void BM_ExpertLoad_Read(benchmark::State& state) {
  const Served served(state);
  for (auto _ : state) benchmark::DoNotOptimize(served.load().Read());
}
BENCHMARK(BM_ExpertLoad_Read)->Apply(Shapes)->Unit(benchmark::kMicrosecond);

// The text of /metrics.
void BM_Metrics_Scrape(benchmark::State& state) {
  const Served served(state);
  size_t bytes = 0;
  for (auto _ : state) bytes = served.metrics().Text().size();
  state.counters["bytes"] = static_cast<double>(bytes);
}
BENCHMARK(BM_Metrics_Scrape)->Apply(Shapes)->Unit(benchmark::kMillisecond);

// The text of /experts.json.
void BM_Metrics_ExpertsJson(benchmark::State& state) {
  const Served served(state);
  size_t bytes = 0;
  for (auto _ : state) {
    bytes = web::ExpertsJson(served.metrics(), "ready", absl::UnixEpoch(), absl::Seconds(1)).size();
  }
  state.counters["bytes"] = static_cast<double>(bytes);
}
BENCHMARK(BM_Metrics_ExpertsJson)->Apply(Shapes)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sluice
