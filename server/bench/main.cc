// sluice-bench: how fast this machine runs a model, without scheduler and network; and how much of
// the model's quality its formats of weights keep.
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "bench/engine_bench.h"
#include "bench/formats.h"
#include "bench/options.h"
#include "bench/quality.h"
#include "bench/read_bandwidth.h"
#include "bench/report.h"
#include "bench/step_work.h"
#include "config/machine.h"
#include "config/server_config.h"
#include "kernels/element_types.h"
#include "model/checkpoint.h"
#include "model/cpu_model_runner.h"
#include "model/kv_cache.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace sluice::bench {
namespace {

int64_t PeakRssBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

int NumThreads(const BenchOptions& options) {
  return options.threads > 0 ? options.threads : config::UsablePhysicalCores();
}

// Prints the rounds' figures: of all together, or of each as it is asked for.
absl::Status MeasureSpeed(const BenchOptions& options) {
  const Workload& workload = options.workload;
  ASSIGN_OR_RETURN(const kernels::WeightFormat format, FindFormat(options.weights));
  const absl::Time start = absl::Now();
  ASSIGN_OR_RETURN(std::unique_ptr<model::Checkpoint> checkpoint,
                   model::Checkpoint::Open(options.model));
  const model::ModelConfig model_config = checkpoint->config();
  RETURN_IF_ERROR(CheckFits(workload, model_config.max_context));
  const auto shape = model::KvCache::Shape::Of(model_config, model::DefaultKvFormat(format));
  model::CpuModelRunner::Options runner_options;
  runner_options.weights = format;
  runner_options.num_threads = NumThreads(options);
  runner_options.kv_cache_bytes = NumKvBlocks(workload) * shape.block_bytes();
  // The server's default, unless that is too small for the batch.
  runner_options.max_step_tokens =
      std::max(config::ServerConfig().max_step_tokens, workload.max_batch());
  runner_options.max_step_sequences = workload.max_batch();
  runner_options.pin = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<model::CpuModelRunner> runner,
                   model::CpuModelRunner::Create(*checkpoint, runner_options));
  checkpoint.reset();

  Report report;
  report.load_seconds = absl::ToDoubleSeconds(absl::Now() - start);
  report.peak_rss_bytes = PeakRssBytes();
  report.model = config::ServedModelName({.model = options.model});
  report.weights = kernels::NameOf(format);
  report.threads = runner_options.num_threads;
  report.cpu = config::CpuName();
  report.isa = runner->load_info().isa;

  base::ThreadPool pool({.num_threads = report.threads, .pin = true});
  pool.PinCaller();
  ReadBandwidth bandwidth(pool, ReadBandwidth::DefaultBytes());
  EngineBench bench({.runner = runner.get(),
                     .config = &model_config,
                     .stored = StoredBytesOf(model_config, runner->load_info().weights,
                                             runner->load_info().kv_block_bytes),
                     .read_bandwidth =
                         [&] {
                           report.read_bandwidths.push_back(bandwidth.Measure());
                           return report.read_bandwidths.back();
                         }},
                    workload);
  if (options.interactive) {
    for (std::string line; std::getline(std::cin, line);) {
      ASSIGN_OR_RETURN(const std::vector<int> contexts, ParseContexts(line, workload));
      report.read_bandwidths.clear();
      report.measurements = bench.RunRound(contexts);
      std::cout << ToJson(report, /*compact=*/true) << std::flush;
    }
    return absl::OkStatus();
  }
  for (int round = 0; round < options.rounds; ++round) {
    for (Measurement& measurement : bench.RunRound(workload.contexts))
      report.measurements.push_back(std::move(measurement));
  }
  std::cout << (options.json ? ToJson(report) : ToTable(report));
  return absl::OkStatus();
}

struct NamedTexts {
  std::string name;
  std::vector<QualityText> texts;
};

absl::StatusOr<std::vector<NamedTexts>> ReadTexts(const BenchOptions& options) {
  std::vector<NamedTexts> sets;
  const std::string golden = options.model + "/golden.json";
  const std::string held_out = options.model + "/heldout.jsonl";
  if (options.texts.empty() && std::filesystem::exists(golden)) {
    ASSIGN_OR_RETURN(std::vector<QualityText> texts, ReadGoldenTexts(golden));
    sets.push_back({"golden", std::move(texts)});
  }
  if (!options.texts.empty() || std::filesystem::exists(held_out)) {
    ASSIGN_OR_RETURN(const auto tokenizer, tokenizer::Tokenizer::Load(options.model));
    ASSIGN_OR_RETURN(const auto chat_template, tokenizer::ChatTemplate::Load(options.model));
    ASSIGN_OR_RETURN(std::vector<QualityText> texts,
                     ReadConversations(options.texts.empty() ? held_out : options.texts, *tokenizer,
                                       *chat_template));
    sets.push_back({options.texts.empty() ? "held-out" : "texts", std::move(texts)});
  }
  if (sets.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--quality needs --texts, as ", options.model,
                                                   " has neither golden.json nor heldout.jsonl"));
  }
  return sets;
}

absl::Status CompareQuality(const BenchOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<NamedTexts> sets, ReadTexts(options));
  ASSIGN_OR_RETURN(const auto checkpoint, model::Checkpoint::Open(options.model));
  std::vector<QualityRow> rows;
  for (const kernels::WeightFormat format : kernels::kAllWeightFormats) {
    if (options.weights == "auto" ? format == kernels::WeightFormat::kF32
                                  : options.weights != kernels::NameOf(format)) {
      continue;
    }
    for (const NamedTexts& set : sets) {
      absl::StatusOr<QualityRow> row =
          MeasureQuality(*checkpoint, format, NumThreads(options), set.name, set.texts);
      // A format that the processor has no kernels for is left out, unless it was asked for.
      if (absl::IsFailedPrecondition(row.status()) && options.weights == "auto") {
        std::cerr << "sluice-bench: no " << kernels::NameOf(format) << ": "
                  << row.status().message() << "\n";
        break;
      }
      if (!row.ok()) return row.status();
      rows.push_back(*std::move(row));
    }
  }
  std::cout << (options.json ? QualityJson(rows) : QualityTable(rows));
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  const absl::StatusOr<ParsedOptions> parsed = ParseOptions(argc, argv);
  absl::Status status = parsed.status();
  if (status.ok()) {
    const BenchOptions& options = parsed->options;
    if (!parsed->text.empty()) {
      std::cout << parsed->text;
    } else {
      status = options.quality ? CompareQuality(options) : MeasureSpeed(options);
    }
  }
  if (status.ok()) return 0;
  std::cerr << "sluice-bench: " << status.message() << "\n";
  return 1;
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) { return sluice::bench::Main(argc, argv); }
