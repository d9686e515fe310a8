// LoadedModel: a checkpoint, ready to be served: tokenizer, chat template, weights and the engine
// that runs them.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "api/model_slot.h"
#include "config/server_config.h"
#include "kernels/packed_matrix.h"
#include "metrics/server_metrics.h"
#include "model/cpu_model_runner.h"
#include "scheduler/engine.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace sluice::server {

class LoadedModel {
 public:
  struct Options {
    std::string folder;
    kernels::WeightFormat weights = kernels::WeightFormat::kF32;
    int num_threads = 1;
    // Limits, names and what is exported.
    const config::ServerConfig& config;
    // Outlives the model.
    metrics::ServerMetrics& metrics;
  };

  // Loads the model, starts its engine, reports to the metrics, and says in the log what was loaded
  // and every limit that was set. Takes as long as reading the weights does.
  static absl::StatusOr<std::unique_ptr<LoadedModel>> Load(const Options& options);

  // Valid as long as this.
  const api::ServedModel& served() const { return served_; }
  scheduler::Engine& engine() { return *engine_; }

 private:
  LoadedModel() = default;

  absl::Status LoadFiles(const Options& options);
  void StartEngine(const Options& options);
  void FillInfo(const Options& options);
  void LogStart(const Options& options) const;

  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  std::unique_ptr<tokenizer::ChatTemplate> chat_template_;
  std::unique_ptr<model::CpuModelRunner> runner_;
  metrics::ExpertLoad* expert_load_ = nullptr;
  std::unique_ptr<metrics::EngineMetrics> engine_metrics_;
  scheduler::EngineLimits limits_;
  std::unique_ptr<scheduler::Engine> engine_;
  api::ServedModel served_;
};

}  // namespace sluice::server
