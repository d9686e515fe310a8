// BM_EngineStep_*: what a step costs beside the model: planning, blocks, sequences, events,
// metrics. The model is a fake that computes nothing.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "metrics/server_metrics.h"
#include "scheduler/engine_core.h"

namespace sluice {
namespace {

// Draws token 1 whatever happens.
class IdleRunner final : public model::ModelRunner {
 public:
  int num_kv_blocks() const override { return 32'768; }
  int max_step_tokens() const override { return 512; }
  int max_step_sequences() const override { return 64; }
  absl::Span<const model::SequenceResult> Run(
      absl::Span<const model::SequenceStep> batch) override {
    results_.resize(batch.size());
    for (size_t i = 0; i < batch.size(); ++i) {
      results_[i].token.reset();
      if (batch[i].sampling != nullptr) results_[i].token = 1;
    }
    return results_;
  }
  void CopyBlock(model::BlockId, model::BlockId) override {}
  model::ExpertStepLoad expert_load() const override { return {}; }

 private:
  std::vector<model::SequenceResult> results_;
};

// One step of 64 streams, each with range(0) tokens before it, while range(1) requests wait.
void BM_EngineStep_64Streams(benchmark::State& state) {
  metrics::ServerMetrics server({.version = "bench"});
  metrics::EngineMetrics engine_metrics =
      server.Engine(server.AddExpertLoad({}, 0, 0, metrics::ExpertMetrics::kOff));
  IdleRunner runner;
  scheduler::EngineCore core({.limits = {.max_waiting_requests = 1000,
                                         .max_waiting_tokens = 100'000'000,
                                         .max_context = 1'000'000},
                              .runner = &runner,
                              .metrics = &engine_metrics});
  std::vector<std::shared_ptr<scheduler::TokenStream>> streams;
  const auto num_prompt = static_cast<size_t>(state.range(0));
  for (int i = 0; i < 64 + state.range(1); ++i) {
    streams.push_back(std::make_shared<scheduler::TokenStream>([] {}));
    scheduler::Request request;
    request.id = absl::StrCat(i);
    request.prompt.assign(num_prompt, static_cast<TokenId>(i));
    request.max_tokens = 400'000;
    core.Submit(std::move(request), streams.back()).IgnoreError();
    core.Step();
  }
  while (core.Load().generated_tokens < 64 * 64) core.Step();
  for (auto _ : state) {
    core.Step();
    state.PauseTiming();
    for (const auto& stream : streams) stream->Take();
    state.ResumeTiming();
    if (core.Load().generated_tokens > 64 * 4000) {
      state.SkipWithError("the cache is nearly full");
      break;
    }
  }
  state.counters["preemptions"] = static_cast<double>(core.Load().preemptions);
  core.EndAll("the benchmark is over");
}
BENCHMARK(BM_EngineStep_64Streams)
    ->ArgNames({"context", "waiting"})
    ->ArgsProduct({{64, 4096}, {0, 256}})
    ->Iterations(2000)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace sluice
