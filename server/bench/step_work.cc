#include "bench/step_work.h"

#include <algorithm>
#include <cstdint>

namespace sluice::bench {
namespace {

// Positions that all tokens of the batch see in a layer, counted together.
double VisiblePositions(absl::Span<const model::SequenceStep> batch,
                        const model::LayerConfig& layer) {
  double sum = 0;
  for (const model::SequenceStep& sequence : batch) {
    for (size_t i = 0; i < sequence.tokens.size(); ++i) {
      int64_t visible = sequence.first_position + static_cast<int64_t>(i) + 1;
      if (layer.sliding_window.has_value()) visible = std::min(visible, *layer.sliding_window);
      sum += static_cast<double>(visible);
    }
  }
  return sum;
}

}  // namespace

StepWork WorkOf(const model::ModelConfig& config, double bytes_per_weight,
                absl::Span<const model::SequenceStep> batch, const model::ExpertStepLoad& load) {
  constexpr double kRouterBytes = 4;
  const auto& attention = config.attention;
  const double hidden = config.hidden_size;
  const double q_size = static_cast<double>(attention.num_heads) * attention.head_dim;
  const double kv_size = static_cast<double>(attention.num_kv_heads) * attention.head_dim;
  const double attention_weights = hidden * (q_size + 2 * kv_size) + q_size * hidden;
  // A SwiGLU network has three matrices.
  const double expert_weights = 3 * hidden * config.expert_ffn_size;
  const double shared_weights = 3 * hidden * config.shared_ffn_size;
  const double dense_weights = 3 * hidden * config.dense_ffn_size;
  const double router_weights = hidden * config.router.num_experts;

  double tokens = 0;
  double drawn = 0;
  for (const model::SequenceStep& sequence : batch) {
    tokens += static_cast<double>(sequence.tokens.size());
    if (sequence.sampling != nullptr) ++drawn;
  }

  StepWork work;
  // Multiplies `rows` rows with matrices of that many weights.
  const auto multiply = [&](double rows, double weights, double bytes) {
    work.weight_bytes += weights * bytes;
    work.flops += 2 * rows * weights;
  };
  size_t sparse_layer = 0;
  for (const model::LayerConfig& layer : config.layers) {
    multiply(tokens, attention_weights, bytes_per_weight);
    // Scores and the weighted sum of values: two products of head_dim for each head.
    work.flops += 4 * q_size * VisiblePositions(batch, layer);
    if (!layer.sparse) {
      multiply(tokens, dense_weights, bytes_per_weight);
      continue;
    }
    multiply(tokens, router_weights, kRouterBytes);
    multiply(tokens, shared_weights, bytes_per_weight);
    const auto num_experts = static_cast<size_t>(config.router.num_experts);
    for (const int32_t routed : load.tokens.subspan(sparse_layer * num_experts, num_experts)) {
      if (routed > 0) multiply(routed, expert_weights, bytes_per_weight);
    }
    ++sparse_layer;
  }
  if (drawn > 0) multiply(drawn, hidden * config.vocab_size, bytes_per_weight);
  return work;
}

}  // namespace sluice::bench
