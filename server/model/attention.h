// Attention over a paged KV cache: from the fused q, k, v projection of a step's rows to each row's
// mix of values.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/aligned_buffer.h"
#include "kernels/compute.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/rope.h"
#include "model/step_batch.h"
#include "model/weights.h"

namespace sluice::model {

// Q = heads * head_dim, KV = kv heads * head_dim. Query head h reads key/value head h / (heads / kv
// heads). Used by the thread that runs the step; works in parallel inside.
//
// A tile of consecutive rows of one sequence meets one key/value head in one work item. Where a
// tile is too much for that, as when few sequences with long contexts decode, each span of its
// context (attention_kernel.h) is an item, and a second pass merges them, with the same result to
// the bit. Memory, set by the constructor's arguments: for each thread a tile's queries and two of
// its partials, and kPartialRowsPerThread rows for the spans; tiles that find no room there stay
// whole.
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
  // A row's result does not depend on how its sequence was cut into steps, on the batch, or on the
  // threads.
  void Attend(int layer, const float* qkv, float* out);

 private:
  struct QueryTile {
    int32_t sequence;
    int64_t first_row;
    int64_t num_rows;
    int64_t first_span;  // of the context that it sees in some layer
    int64_t last_span;
    int64_t cost;
    std::optional<int64_t> partials;  // where those of its spans are, if they are apart
  };
  // Of each key/value head.
  struct WorkItem {
    int32_t tile;
    std::optional<int64_t> span;  // or all of them
    int64_t cost;
  };
  // Memory of one thread, for the largest tile.
  struct Scratch {
    kernels::AlignedBuffer<float> queries;
    kernels::AlignedBuffer<float> result;
    kernels::AlignedBuffer<float> span;
  };

  Attention(const ModelConfig& config, kernels::Compute& compute, KvCache& cache, RopeTable rope,
            int max_step_tokens, int max_step_sequences);

  // Stores one key/value head of the rows that a work item begins with `first_row`.
  void StoreHead(int layer, int64_t first_row, int kv_head, const float* qkv, int thread);
  kernels::AttentionTile KernelTile(int layer, const QueryTile& tile, int kv_head,
                                    const float* qkv) const;
  // The partial of one span of a tile whose spans are apart.
  kernels::AttentionPartial Partial(const QueryTile& tile, int64_t span, int kv_head);
  int64_t window(int layer) const;
  int64_t partial_floats(const QueryTile& tile) const;
  void RunItem(int layer, const WorkItem& item, int kv_head, int thread, const float* qkv,
               float* out);
  void MergeSpans(const QueryTile& tile, int kv_head, float* out);
  void Finish(const QueryTile& tile, int kv_head, const kernels::AttentionPartial& partial,
              float* out) const;

  int group() const { return config_.attention.num_heads / config_.attention.num_kv_heads; }
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
  int channels_;
  int64_t max_window_;  // of all layers
  int64_t tile_rows_;
  std::vector<Scratch> scratch_;                           // of each thread
  std::vector<kernels::AlignedBuffer<uint16_t>> rounded_;  // of each thread: [2, head_dim]
  kernels::AlignedBuffer<float> partials_;

  const StepBatch* batch_ = nullptr;
  std::vector<QueryTile> tiles_;
  std::vector<WorkItem> items_;       // most costly first
  std::vector<int32_t> split_tiles_;  // those whose spans are apart
};

}  // namespace sluice::model
