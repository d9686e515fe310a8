// sluice-bench: how fast this machine runs a model, without scheduler and network.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "bench/engine_bench.h"
#include "bench/options.h"
#include "bench/read_bandwidth.h"
#include "bench/report.h"
#include "config/machine.h"
#include "config/server_config.h"
#include "kernels/kernel_set.h"
#include "model/checkpoint.h"
#include "model/cpu_model_runner.h"
#include "model/kv_cache.h"

namespace sluice::bench {
namespace {

using kernels::WeightFormat;

// bf16 wherever there are kernels for it.
WeightFormat ChooseFormat(config::WeightsFormat wish) {
  switch (wish) {
    case config::WeightsFormat::kF32:
      return kernels::WeightFormat::kF32;
    case config::WeightsFormat::kBf16:
      return kernels::WeightFormat::kBf16;
    case config::WeightsFormat::kInt8:
      return kernels::WeightFormat::kInt8;
    case config::WeightsFormat::kInt4:
      return kernels::WeightFormat::kInt4;
    case config::WeightsFormat::kAuto:
      break;
  }
  return kernels::BestFormat();
}

int64_t PeakRssBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

absl::StatusOr<Report> Measure(const BenchOptions& options) {
  const Workload& workload = options.workload;
  const WeightFormat format = ChooseFormat(options.weights);
  const int threads = options.threads > 0 ? options.threads : config::UsablePhysicalCores();

  const absl::Time start = absl::Now();
  ASSIGN_OR_RETURN(std::unique_ptr<model::Checkpoint> checkpoint,
                   model::Checkpoint::Open(options.model));
  const model::ModelConfig model_config = checkpoint->config();
  RETURN_IF_ERROR(CheckFits(workload, model_config.max_context));
  const auto shape = model::KvCache::Shape::Of(model_config, model::DefaultKvFormat(format));
  model::CpuModelRunner::Options runner_options;
  runner_options.weights = format;
  runner_options.num_threads = threads;
  runner_options.kv_cache_bytes = NumKvBlocks(workload) * shape.block_bytes();
  // The server's default, unless that is too small for the batch.
  runner_options.max_step_tokens =
      std::max(config::ServerConfig().max_step_tokens, workload.max_batch());
  runner_options.max_step_sequences = workload.max_batch();
  runner_options.pin = true;
  ASSIGN_OR_RETURN(std::unique_ptr<model::CpuModelRunner> runner,
                   model::CpuModelRunner::Create(*checkpoint, runner_options));
  checkpoint.reset();

  Report report;
  report.load_seconds = absl::ToDoubleSeconds(absl::Now() - start);
  report.model = config::ServedModelName({.model = options.model});
  report.weights = kernels::NameOf(format);
  report.threads = threads;
  report.cpu = config::CpuName();
  report.isa = runner->load_info().isa;
  report.results =
      EngineBench({.runner = runner.get(),
                   .config = &model_config,
                   .bytes_per_weight =
                       static_cast<double>(kernels::BlockBytes(format, model_config.hidden_size)) /
                       static_cast<double>(model_config.hidden_size * kernels::kBlockColumns)})
          .Run(workload);
  // Before the bandwidth's buffer adds to it.
  report.peak_rss_bytes = PeakRssBytes();
  runner.reset();
  base::ThreadPool pool({.num_threads = threads, .pin = true});
  report.read_bandwidth = MeasureReadBandwidth(pool, ReadBandwidthBytes());
  return report;
}

int Main(int argc, char** argv) {
  const absl::StatusOr<ParsedOptions> parsed = ParseOptions(argc, argv);
  absl::Status status = parsed.status();
  if (status.ok() && !parsed->text.empty()) {
    std::fputs(parsed->text.c_str(), stdout);
    return 0;
  }
  if (status.ok()) {
    const absl::StatusOr<Report> report = Measure(parsed->options);
    status = report.status();
    if (status.ok()) {
      const std::string text = parsed->options.json ? ToJson(*report) : ToTable(*report);
      std::fputs(text.c_str(), stdout);
      return 0;
    }
  }
  std::fprintf(stderr, "sluice-bench: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) { return sluice::bench::Main(argc, argv); }
