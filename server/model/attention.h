// Attention over a paged KV cache: from the fused q, k, v projection of a step's rows to each row's
// mix of values.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/compute.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/rope.h"
#include "model/step_batch.h"
#include "model/weights.h"

namespace sluice::model {

// Q = heads * head_dim, KV = kv heads * head_dim. Query head h reads key/value head h / (heads / kv
// heads). Used by the thread that runs the step; works in parallel inside.
class Attention {
 public:
  // `max_positions`: what one sequence can reach. `compute` and `cache` outlive this.
  static absl::StatusOr<Attention> Create(const ModelConfig& config, kernels::Compute& compute,
                                          KvCache& cache, int64_t max_positions,
                                          int max_step_tokens, int max_step_sequences);

  // Looks at a new batch, which must stay as it is until the next call.
  void BeginStep(const StepBatch& batch);

  // Normalises, clips and rotates the queries and keys in qkv [T, Q + KV + KV], and writes keys and
  // values into the cache.
  void StoreKeysAndValues(int layer, const LayerWeights& weights, float* qkv);

  // out [T, Q]: every query against the keys that it may see: causal, within the layer's window.
  // A row's result does not depend on how its sequence was cut into steps.
  void Attend(int layer, const float* qkv, float* out);

 private:
  // Consecutive rows of one sequence, which share the keys they read.
  struct QueryTile {
    int32_t sequence;
    int64_t first_row;
    int64_t num_rows;
  };

  Attention(const ModelConfig& config, kernels::Compute& compute, KvCache& cache, RopeTable rope,
            int max_step_tokens, int max_step_sequences);

  void AttendTile(int layer, const QueryTile& tile, int kv_head, int thread, const float* qkv,
                  float* out);

  int64_t q_size() const {
    return int64_t{config_.attention.num_heads} * config_.attention.head_dim;
  }
  int64_t kv_size() const {
    return int64_t{config_.attention.num_kv_heads} * config_.attention.head_dim;
  }
  int64_t qkv_size() const { return q_size() + 2 * kv_size(); }

  const ModelConfig& config_;
  kernels::Compute* compute_;
  KvCache* cache_;
  RopeTable rope_;
  const StepBatch* batch_ = nullptr;
  int64_t tile_rows_;
  std::vector<QueryTile> tiles_;
  // Of each thread: one entry for each row and head of its tile.
  std::vector<std::vector<kernels::SoftmaxState>> states_;
};

}  // namespace sluice::model
