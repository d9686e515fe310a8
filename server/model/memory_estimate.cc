#include "model/memory_estimate.h"

#include <algorithm>

#include "kernels/element_types.h"
#include "kernels/packed_matrix.h"
#include "model/transformer.h"

namespace sluice::model {
namespace {

using kernels::WeightFormat;

int64_t MatrixBytes(WeightFormat format, int64_t n, int64_t k) {
  const int64_t blocks = (n + kernels::kBlockColumns - 1) / kernels::kBlockColumns;
  return blocks * kernels::kBlockColumns * kernels::PaddedK(format, k) *
         static_cast<int64_t>(kernels::BytesOf(format));
}

int64_t FfnBytes(WeightFormat format, const FfnTensors& ffn) {
  return MatrixBytes(format, ffn.gate.rows, ffn.gate.cols) +
         MatrixBytes(format, ffn.up.rows, ffn.up.cols) +
         MatrixBytes(format, ffn.down.rows, ffn.down.cols);
}

int64_t VectorBytes(const std::optional<TensorView>& tensor) {
  return tensor.has_value() ? tensor->rows * tensor->cols * static_cast<int64_t>(sizeof(float)) : 0;
}

int64_t WeightsBytes(const Checkpoint& checkpoint, WeightFormat format) {
  const ModelTensors& tensors = checkpoint.tensors();
  int64_t bytes = static_cast<int64_t>(tensors.embedding.bytes()) +
                  VectorBytes(tensors.final_norm) +
                  MatrixBytes(format, tensors.lm_head.rows, tensors.lm_head.cols);
  for (const LayerTensors& layer : tensors.layers) {
    bytes += MatrixBytes(format, layer.q.rows + layer.k.rows + layer.v.rows, layer.q.cols) +
             MatrixBytes(format, layer.o.rows, layer.o.cols);
    for (const auto& vector :
         {std::optional(layer.attention_norm), std::optional(layer.ffn_norm), layer.q_bias,
          layer.k_bias, layer.v_bias, layer.q_norm, layer.k_norm, layer.o_bias, layer.shared_gate})
      bytes += VectorBytes(vector);
    if (layer.router.has_value())
      bytes += MatrixBytes(WeightFormat::kF32, layer.router->rows, layer.router->cols);
    for (const FfnTensors& expert : layer.experts) bytes += FfnBytes(format, expert);
    if (layer.shared.has_value()) bytes += FfnBytes(format, *layer.shared);
    if (layer.dense.has_value()) bytes += FfnBytes(format, *layer.dense);
  }
  return bytes;
}

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
  return {.weights = WeightsBytes(checkpoint, options.weights),
          .kv_cache = options.kv_cache_bytes,
          .scratch = ScratchBytes(checkpoint.config(), options.max_step_tokens)};
}

}  // namespace sluice::model
