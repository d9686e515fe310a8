// BM_Step_*: what counting and reporting cost the engine in each step. BM_Engine_*: the same while
// somebody scrapes all the time. BM_Metrics_* and BM_Http_*: what a scrape and the page's figures
// cost whoever asks. Layers x experts: the demo model, Qwen3-30B-A3B, DeepSeek-V3 (61 layers).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "connection.h"
#include "kernels/kernel_set.h"
#include "metrics/server_metrics.h"
#include "model/route_counts.h"
#include "scheduler/engine_report.h"
#include "web/endpoint.h"
#include "web/experts_json.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << "\n";
  std::exit(1);
}

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

const kernels::VectorOps& Ops() {
  static const auto* const kernels =
      new kernels::KernelSet(Must(kernels::SelectKernels(kernels::WeightFormat::kF32)));
  return *kernels->vector;
}

std::vector<int> Layers(int num_layers) {
  std::vector<int> layers(num_layers);
  std::iota(layers.begin(), layers.end(), 0);
  return layers;
}

struct Shape {
  explicit Shape(const benchmark::State& state)
      : num_layers(static_cast<int>(state.range(0))),
        num_experts(static_cast<int>(state.range(1))),
        top_k(num_experts == 8 ? 2 : 8) {}

  int num_layers;
  int num_experts;
  int top_k;
};

// A step whose tokens go to random experts, as in a forward pass: the router's probabilities
// [T, E] of one layer take the place of those of the layer before.
class Step {
 public:
  Step(const Shape& shape, int64_t num_tokens)
      : num_tokens_(num_tokens),
        layers_(shape.num_layers),
        probabilities_(num_tokens * shape.num_experts),
        weights_(num_tokens * shape.top_k, 1.0f / static_cast<float>(shape.top_k)),
        counts_(Ops(), shape.num_layers, shape.num_experts) {
    std::mt19937 random(7);
    std::uniform_real_distribution<float> uniform(0, 2.0f / static_cast<float>(shape.num_experts));
    for (float& probability : probabilities_) probability = uniform(random);
    std::vector<int32_t> order(shape.num_experts);
    std::iota(order.begin(), order.end(), 0);
    for (std::vector<int32_t>& experts : layers_) {
      for (int64_t token = 0; token < num_tokens; ++token) {
        for (int k = 0; k < shape.top_k; ++k) {
          std::swap(order[k], order[k + random() % (order.size() - k)]);
          experts.push_back(order[k]);
        }
      }
    }
    Count();
  }

  // All that the forward pass does for the metrics.
  void Count() {
    counts_.Begin(num_tokens_);
    for (size_t i = 0; i < layers_.size(); ++i) {
      const auto start = Clock::now();
      const auto layer = static_cast<int>(i);
      counts_.Count(layer, {.experts = layers_[i], .weights = weights_}, probabilities_);
      counts_.SetSeconds(layer, SecondsSince(start));
    }
  }

  int64_t num_tokens() const { return num_tokens_; }
  model::ExpertStepLoad load() const { return counts_.load(); }

 private:
  const int64_t num_tokens_;
  std::vector<std::vector<int32_t>> layers_;
  std::vector<float> probabilities_;
  std::vector<float> weights_;
  model::RouteCounts counts_;
};

// A server that has run for a while.
class Served {
 public:
  explicit Served(const Shape& shape)
      : metrics_({.version = "bench"}),
        load_(metrics_.AddExpertLoad(Layers(shape.num_layers), shape.num_experts, shape.top_k,
                                     metrics::ExpertMetrics::kPerExpert)),
        engine_(metrics_.Engine(load_)),
        report_(engine_) {
    metrics_.SetModel({.name = "bench"});
    const Step step(shape, 512);
    for (int i = 0; i < 200; ++i) Publish(step);
  }

  // All that the engine does for the metrics of a step, beside those of requests that start or end:
  // up to 64 tokens are those of so many streams, more are a prompt's.
  void Publish(const Step& step) {
    const auto num_tokens = static_cast<int>(step.num_tokens());
    const int num_streams = num_tokens <= 64 ? num_tokens : 0;
    report_.SetPromptBudget(512);
    report_.AddExperts(step.load());
    for (int i = 0; i < num_streams; ++i) engine_.inter_token_latency_seconds.Observe(0.03);
    report_.AddStep({.num_sequences = std::max(num_streams, 1),
                     .num_tokens = num_tokens,
                     .num_prompt_tokens = num_tokens - num_streams,
                     .num_generated = num_streams},
                    absl::Milliseconds(30));
    report_.SetLoad(
        {.running_requests = num_streams, .total_kv_blocks = 1024, .free_kv_blocks = 512});
  }

  const metrics::ServerMetrics& metrics() const { return metrics_; }
  const metrics::ExpertLoad& load() const { return load_; }
  metrics::EngineMetrics& engine() { return engine_; }

 private:
  metrics::ServerMetrics metrics_;
  metrics::ExpertLoad& load_;
  metrics::EngineMetrics engine_;
  scheduler::EngineReport report_;
};

void Shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"layers", "experts"})->Args({6, 8})->Args({48, 128})->Args({61, 256});
}

void ShapesAndTokens(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"layers", "experts", "tokens"})
      ->ArgsProduct({{6}, {8}, {1, 64, 512}})
      ->ArgsProduct({{48}, {128}, {1, 64, 512}})
      ->ArgsProduct({{61}, {256}, {1, 64, 512}})
      ->Unit(benchmark::kMicrosecond);
}

void BM_Step_Count(benchmark::State& state) {
  Step step(Shape(state), state.range(2));
  for (auto _ : state) step.Count();
  state.SetLabel(Ops().name);
}
BENCHMARK(BM_Step_Count)->Apply(ShapesAndTokens);

void BM_Step_Publish(benchmark::State& state) {
  Served served{Shape(state)};
  const Step step(Shape(state), state.range(2));
  for (auto _ : state) served.Publish(step);
}
BENCHMARK(BM_Step_Publish)->Apply(ShapesAndTokens);

// Both, as each step does.
void BM_Step_CountAndPublish(benchmark::State& state) {
  Served served{Shape(state)};
  Step step(Shape(state), state.range(2));
  for (auto _ : state) {
    step.Count();
    served.Publish(step);
  }
  state.SetLabel(Ops().name);
}
BENCHMARK(BM_Step_CountAndPublish)->Apply(ShapesAndTokens);

// Times of one call, and what the slowest of them were.
class Times {
 public:
  explicit Times(size_t most) { seconds_.reserve(most); }

  void Add(double seconds) { seconds_.push_back(seconds); }
  double last() const { return seconds_.back(); }

  // As counters in units of `unit` seconds.
  void Report(const std::string& name, double unit, benchmark::State& state) {
    std::sort(seconds_.begin(), seconds_.end());
    state.counters[name + "_p50"] = seconds_[seconds_.size() / 2] / unit;
    state.counters[name + "_p99"] = seconds_[seconds_.size() * 99 / 100] / unit;
    state.counters[name + "_max"] = seconds_.back() / unit;
  }

 private:
  std::vector<double> seconds_;
};

constexpr int kScrapedSteps = 4000;

// What the engine does, call by call, while a thread scrapes without a pause (scraped:1) or nobody
// does (scraped:0). publish, in microseconds: a step of one token; observe, in nanoseconds: one
// observation of a histogram. Reading the clock is a part of both. In the longest the engine may
// have lost its processor; it never waits for who scrapes.
void BM_Engine_WhileScraped(benchmark::State& state) {
  Served served{Shape(state)};
  const Step step(Shape(state), 1);
  std::atomic<bool> done{state.range(2) == 0};
  int64_t scrapes = 0;
  std::thread scraper([&] {
    for (; !done; ++scrapes) benchmark::DoNotOptimize(served.metrics().Text());
  });
  Times publish(kScrapedSteps), observe(kScrapedSteps);
  for (auto _ : state) {
    auto start = Clock::now();
    served.Publish(step);
    publish.Add(SecondsSince(start));
    start = Clock::now();
    served.engine().step_seconds.Observe(0.03);
    observe.Add(SecondsSince(start));
    state.SetIterationTime(publish.last());
    // A step's other work, much shortened.
    while (SecondsSince(start) < 500e-6) {
    }
  }
  done = true;
  scraper.join();
  publish.Report("publish", 1e-6, state);
  observe.Report("observe", 1e-9, state);
  state.counters["scrapes"] = static_cast<double>(scrapes);
}
BENCHMARK(BM_Engine_WhileScraped)
    ->ArgNames({"layers", "experts", "scraped"})
    ->ArgsProduct({{6}, {8}, {0, 1}})
    ->ArgsProduct({{48}, {128}, {0, 1}})
    ->ArgsProduct({{61}, {256}, {0, 1}})
    ->UseManualTime()
    ->Iterations(kScrapedSteps)
    ->Unit(benchmark::kMicrosecond);

void BM_ExpertLoad_Read(benchmark::State& state) {
  const Served served{Shape(state)};
  for (auto _ : state) benchmark::DoNotOptimize(served.load().Read());
}
BENCHMARK(BM_ExpertLoad_Read)->Apply(Shapes)->Unit(benchmark::kMicrosecond);

// The text of /metrics.
void BM_Metrics_Scrape(benchmark::State& state) {
  const Served served{Shape(state)};
  for (auto _ : state) benchmark::DoNotOptimize(served.metrics().Text());
}
BENCHMARK(BM_Metrics_Scrape)->Apply(Shapes)->Unit(benchmark::kMillisecond);

// The text of /experts.json.
void BM_Metrics_ExpertsJson(benchmark::State& state) {
  const Served served{Shape(state)};
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        web::ExpertsJson(served.metrics(), "ready", absl::UnixEpoch(), absl::Seconds(1)));
  }
}
BENCHMARK(BM_Metrics_ExpertsJson)->Apply(Shapes)->Unit(benchmark::kMillisecond);

// As Prometheus and the page ask: over a connection of its own, until the last byte is there.
void BM_Http_Get(benchmark::State& state, const char* path) {
  const Served served{Shape(state)};
  const auto endpoint = Must(
      web::Endpoint::Start("127.0.0.1:0", served.metrics(), [] { return web::Readiness::kReady; }));
  double longest = 0;
  size_t bytes = 0;
  for (auto _ : state) {
    const auto start = Clock::now();
    bytes = web::Ask(endpoint->port(), path).size();
    longest = std::max(longest, SecondsSince(start));
  }
  state.counters["max_ms"] = 1e3 * longest;
  state.counters["bytes"] = static_cast<double>(bytes);
}
BENCHMARK_CAPTURE(BM_Http_Get, metrics, "/metrics")
    ->Apply(Shapes)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Http_Get, experts_json, "/experts.json")
    ->Apply(Shapes)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sluice
