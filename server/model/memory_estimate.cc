#include "model/memory_estimate.h"

#include <algorithm>

#include "kernels/activation_rows.h"
#include "kernels/tile_kernel.h"
#include "model/transformer.h"
#include "model/weights.h"

namespace sluice::model {
namespace {

// The buffers whose size grows with the step, the threads, the vocabulary or the context.
int64_t ScratchBytes(const ModelConfig& config, const CpuModelRunner::Options& options) {
  constexpr int64_t kFloat = sizeof(float);
  const int64_t hidden = config.hidden_size;
  const int64_t head_dim = config.attention.head_dim;
  const int64_t q = config.attention.num_heads * head_dim;
  const int64_t kv = config.attention.num_kv_heads * head_dim;
  const int64_t slots = config.router.top_k + (config.shared_ffn_size > 0 ? 1 : 0);
  const int64_t ffn =
      std::max(config.router.top_k * int64_t{config.expert_ffn_size} + config.shared_ffn_size,
               int64_t{config.dense_ffn_size});
  const int64_t max_k = std::max({hidden, q, int64_t{config.expert_ffn_size},
                                  int64_t{config.shared_ffn_size}, int64_t{config.dense_ffn_size}});
  // The residual, its norm, queries with keys and values, attention's result, routing; every
  // expert's hidden values and results; and the input of a product as the format has it.
  const int64_t per_token = (2 * hidden + 2 * q + 2 * kv + config.router.num_experts +
                             2 * config.router.top_k + ffn + slots * hidden) *
                                kFloat +
                            kernels::RowBytes(options.weights, max_k);
  // A tile of inputs; what a thread samples from; partial results of attention.
  const int64_t per_thread = kernels::kTileRows * max_k * kFloat + 12 * int64_t{config.vocab_size} +
                             2 * 1024 * (head_dim + 32) * kFloat;
  const int64_t logits =
      Transformer::kMaxLogitRows * (int64_t{config.vocab_size} + hidden) * kFloat;
  const int64_t rotation = config.max_context * head_dim * kFloat;
  return options.max_step_tokens * per_token + options.num_threads * per_thread + logits + rotation;
}

}  // namespace

MemoryEstimate EstimateMemory(const Checkpoint& checkpoint,
                              const CpuModelRunner::Options& options) {
  return {.weights = Weights::PackedBytes(checkpoint, options.weights),
          .kv_cache = options.kv_cache_bytes,
          .scratch = ScratchBytes(checkpoint.config(), options)};
}

}  // namespace sluice::model
