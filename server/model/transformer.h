// Transformer: the whole forward pass, from tokens to logits.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/compute.h"
#include "model/attention.h"
#include "model/config.h"
#include "model/feed_forward.h"
#include "model/kv_cache.h"
#include "model/model_runner.h"
#include "model/route_counts.h"
#include "model/step_batch.h"
#include "model/weights.h"

namespace sluice::model {

// Looks into a step: for tests and for finding out what a model does. T = the step's tokens.
class StepObserver {
 public:
  virtual ~StepObserver() = default;

  // The router of decoder layer `layer` has made up its mind: probabilities [T, E], experts [T, K].
  // Other experts may be put in their place; their weights are computed afterwards.
  virtual void OnRoutes(int layer, absl::Span<const float> probabilities,
                        absl::Span<int32_t> experts) {}
  // The weights [T, K] with which these experts enter the sum.
  virtual void OnRouteWeights(int layer, absl::Span<const int32_t> experts,
                              absl::Span<const float> weights) {}
  // The logits [V] of one row of the step; comes for every row, whether or not they were wanted.
  virtual void OnLogits(int64_t row, absl::Span<const float> logits) {}
};

// Used by the engine thread alone; works in parallel inside. Allocates nothing after
// construction but what oneDNN does in each call.
class Transformer {
 public:
  struct Limits {
    int max_step_tokens = 0;
    int max_step_sequences = 0;
  };

  // Everything referred to outlives the Transformer.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const ModelConfig& config,
                                                             const Weights& weights,
                                                             kernels::Compute& compute,
                                                             KvCache& cache, const Limits& limits);

  // Rows of logits that one call of Logits may ask for.
  static constexpr int kMaxLogitRows = kernels::kTileRows;

  // Runs all layers over the batch: writes its keys and values into the cache and keeps the last
  // hidden state of every row.
  void Forward(const StepBatch& batch, StepObserver* observer);

  // The logits [rows.size(), V] of some rows of the last Forward; the caller's until the next call.
  absl::Span<float> Logits(absl::Span<const int64_t> rows);

  // What the experts did in the last Forward.
  ExpertStepLoad expert_load() const { return route_counts_.load(); }

 private:
  Transformer(const ModelConfig& config, const Weights& weights, kernels::Compute& compute,
              Attention attention, const Limits& limits);

  void Embed(const StepBatch& batch);
  void Normalize(const std::vector<float>& weight);
  // Chooses experts for every row of normed_. `sparse_layer` counts sparse layers only.
  Routes Route(int layer, int sparse_layer, const LayerWeights& weights, StepObserver* observer);

  const ModelConfig& config_;
  const Weights& weights_;
  kernels::Compute& compute_;
  Attention attention_;
  FeedForward feed_forward_;
  RouteCounts route_counts_;

  // T = rows of the step, H = hidden size, Q and KV as in attention.h, E experts, K per token, V
  // vocabulary size.
  int64_t num_rows_ = 0;
  kernels::AlignedBuffer<float> x_;              // [T, H] the residual stream
  kernels::AlignedBuffer<float> normed_;         // [T, H]
  kernels::AlignedBuffer<float> qkv_;            // [T, Q + KV + KV]
  kernels::AlignedBuffer<float> attended_;       // [T, Q]
  kernels::AlignedBuffer<float> probabilities_;  // [T, E]
  kernels::AlignedBuffer<int32_t> experts_;      // [T, K]
  kernels::AlignedBuffer<float> route_weights_;  // [T, K]
  kernels::AlignedBuffer<float> last_hidden_;    // [kMaxLogitRows, H]
  kernels::AlignedBuffer<float> logits_;         // [kMaxLogitRows, V]
};

}  // namespace sluice::model
