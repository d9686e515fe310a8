#include "model/memory_estimate.h"

#include <algorithm>

#include "model/transformer.h"
#include "model/weights.h"

namespace sluice::model {
namespace {

// The buffers whose size grows with the step, in numbers of four bytes.
int64_t ScratchBytes(const ModelConfig& config, int64_t step_tokens) {
  const int64_t hidden = config.hidden_size;
  const int64_t q = int64_t{config.attention.num_heads} * config.attention.head_dim;
  const int64_t kv = int64_t{config.attention.num_kv_heads} * config.attention.head_dim;
  const int64_t slots = config.router.top_k + (config.shared_ffn_size > 0 ? 1 : 0);
  const int64_t ffn =
      std::max(config.router.top_k * int64_t{config.expert_ffn_size} + config.shared_ffn_size,
               int64_t{config.dense_ffn_size});
  // The residual, its norm, queries with keys and values, attention's result, routing; then every
  // expert's hidden values and results.
  const int64_t per_token = 2 * hidden + 2 * q + 2 * kv + config.router.num_experts +
                            2 * config.router.top_k + ffn + slots * hidden;
  const int64_t logits = Transformer::kMaxLogitRows * (int64_t{config.vocab_size} + hidden);
  return (step_tokens * per_token + logits) * static_cast<int64_t>(sizeof(float));
}

}  // namespace

MemoryEstimate EstimateMemory(const Checkpoint& checkpoint,
                              const CpuModelRunner::Options& options) {
  return {.weights = Weights::PackedBytes(checkpoint, options.weights),
          .kv_cache = options.kv_cache_bytes,
          .scratch = ScratchBytes(checkpoint.config(), options.max_step_tokens)};
}

}  // namespace sluice::model
