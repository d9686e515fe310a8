#include "bench/step_work.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"

namespace sluice::bench {
namespace {

// Positions of the cache that tokens of the batch see in a layer.
struct Visible {
  double by_tokens = 0;  // counted for each token that sees them
  double read = 0;       // counted once for each sequence
};

Visible VisiblePositions(absl::Span<const model::SequenceStep> batch,
                         const model::LayerConfig& layer) {
  Visible visible;
  for (const model::SequenceStep& sequence : batch) {
    const auto num_tokens = static_cast<int64_t>(sequence.tokens.size());
    const int64_t end = sequence.first_position + num_tokens;
    int64_t begin = 0;  // what the first token sees, and no other token sees more
    if (layer.sliding_window.has_value())
      begin = std::max<int64_t>(0, sequence.first_position + 1 - *layer.sliding_window);
    visible.read += static_cast<double>(end - begin);
    for (int64_t i = 0; i < num_tokens; ++i) {
      int64_t seen = sequence.first_position + i + 1;
      if (layer.sliding_window.has_value()) seen = std::min(seen, *layer.sliding_window);
      visible.by_tokens += static_cast<double>(seen);
    }
  }
  return visible;
}

}  // namespace

StoredBytes StoredBytesOf(const model::ModelConfig& config, const model::WeightsSize& size,
                          int64_t kv_block_bytes) {
  const auto per = [&](absl::string_view kind, double count) {
    for (const auto& [name, bytes] : size.bytes) {
      if (name == kind && count > 0) return static_cast<double>(bytes) / count;
    }
    return 0.0;
  };
  const double layers = config.num_layers();
  const auto sparse = static_cast<double>(
      std::count_if(config.layers.begin(), config.layers.end(),
                    [](const model::LayerConfig& layer) { return layer.sparse; }));
  StoredBytes stored;
  stored.attention = per("attention", layers);
  stored.router = per("router", sparse);
  stored.expert = per("experts", sparse * config.router.num_experts);
  stored.shared = per("shared", sparse);
  stored.dense = per("dense", layers - sparse);
  stored.lm_head = per("lm_head", 1);
  stored.kv_position = static_cast<double>(kv_block_bytes) / model::kKvBlockTokens / layers;
  return stored;
}

StepWork WorkOf(const model::ModelConfig& config, const StoredBytes& stored,
                absl::Span<const model::SequenceStep> batch, const model::ExpertStepLoad& load) {
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
    work.weight_bytes += bytes;
    work.flops += 2 * rows * weights;
  };
  size_t sparse_layer = 0;
  for (const model::LayerConfig& layer : config.layers) {
    multiply(tokens, attention_weights, stored.attention);
    const Visible visible = VisiblePositions(batch, layer);
    work.kv_bytes += visible.read * stored.kv_position;
    // Scores and the weighted sum of values: two products of head_dim for each head.
    work.flops += 4 * q_size * visible.by_tokens;
    if (!layer.sparse) {
      multiply(tokens, dense_weights, stored.dense);
      continue;
    }
    multiply(tokens, router_weights, stored.router);
    if (config.shared_ffn_size > 0) multiply(tokens, shared_weights, stored.shared);
    const auto num_experts = static_cast<size_t>(config.router.num_experts);
    for (const int32_t routed : load.tokens.subspan(sparse_layer * num_experts, num_experts)) {
      if (routed > 0) multiply(routed, expert_weights, stored.expert);
    }
    ++sparse_layer;
  }
  if (drawn > 0) multiply(drawn, hidden * config.vocab_size, stored.lm_head);
  return work;
}

}  // namespace sluice::bench
