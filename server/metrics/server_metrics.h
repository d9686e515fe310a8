// ServerMetrics: every metric family of the server in one place, built once at start. It hands out
// structs of references to those who report, and text or plain numbers to those who show them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "metrics/engine_metrics.h"
#include "metrics/expert_load.h"
#include "metrics/live_figures.h"
#include "metrics/request_metrics.h"

namespace sluice::metrics {

// How much of the expert load is exported: per_expert has two series for each expert of each layer,
// per_layer has only the per-layer families. GetExpertLoad is not affected.
enum class ExpertMetrics { kPerExpert, kPerLayer, kOff };

// Labels of build_info.
struct BuildInfo {
  std::string version;
  std::string compiler;
  std::string isa;       // that the kernels use, such as "avx512_bf16"
  std::string kernels;   // those in use
  std::string declined;  // better ones, and why they are not in use
};

// Labels of model_info, and what is known once the model is loaded.
struct ModelInfo {
  std::string name;     // under which it is served
  std::string family;   // such as "mixtral"
  std::string weights;  // format, such as "bf16"
  double load_seconds = 0;
  // Bytes of packed weights by kind (such as "experts", "attention"): a fixed, short list.
  std::vector<std::pair<std::string, int64_t>> weights_bytes;
};

// Thread-safe: metrics are scraped while the model is loaded and added.
class ServerMetrics {
 public:
  explicit ServerMetrics(const BuildInfo& build);
  // References that were handed out die with it.
  ~ServerMetrics();

  const RequestMetrics& requests() const;

  // What became known by loading the model. Call each at most once; their families are absent from
  // the page before.
  void SetModel(const ModelInfo& model);
  // Makes the model's ExpertLoad and exports it as `mode` says; arguments as ExpertLoad's.
  ExpertLoad& AddExpertLoad(std::vector<int> layers, int num_experts, int top_k,
                            ExpertMetrics mode);

  // The engine's metrics, which report to `expert_load` too. `expert_load` must live as long as the
  // result is used.
  EngineMetrics Engine(ExpertLoad& expert_load);

  // All families, in the Prometheus text format.
  std::string Text() const;

  const std::string& version() const;
  // What SetModel, AddExpertLoad and Engine were given or have made; absent before.
  std::optional<ModelInfo> model() const;
  const ExpertLoad* expert_load() const;
  std::optional<LiveFigures> Figures() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::metrics
