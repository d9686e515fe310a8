#include "support/random_checkpoint.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/element_types.h"

namespace sluice::testing {
namespace {

using model::DType;

// Truncating is good enough for random numbers of ordinary size.
uint16_t HalfFromFloat(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const int exponent = static_cast<int>((bits >> 23) & 0xff) - 112;
  if (exponent <= 0) return static_cast<uint16_t>(bits >> 16 & 0x8000);
  return static_cast<uint16_t>((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff));
}

}  // namespace

RandomCheckpoint::RandomCheckpoint(const model::ModelConfig& config, DType dtype, unsigned seed)
    : config_(config), dtype_(dtype), random_(seed) {
  const int64_t hidden = config.hidden_size;
  const model::AttentionConfig& attention = config.attention;
  const int64_t q = int64_t{attention.num_heads} * attention.head_dim;
  const int64_t kv = int64_t{attention.num_kv_heads} * attention.head_dim;
  tensors_.embedding = Draw(config.vocab_size, hidden, 0, 1);
  for (const model::LayerConfig& layer_config : config.layers) {
    model::LayerTensors layer;
    layer.attention_norm = Norm(hidden);
    layer.q = Matrix(q, hidden);
    layer.k = Matrix(kv, hidden);
    layer.v = Matrix(kv, hidden);
    if (attention.qkv_bias) {
      layer.q_bias = Bias(q);
      layer.k_bias = Bias(kv);
      layer.v_bias = Bias(kv);
    }
    if (attention.qk_norm == model::QkNorm::kPerHead) {
      layer.q_norm = Norm(attention.head_dim);
      layer.k_norm = Norm(attention.head_dim);
    } else if (attention.qk_norm == model::QkNorm::kFullProjection) {
      layer.q_norm = Norm(q);
      layer.k_norm = Norm(kv);
    }
    layer.o = Matrix(hidden, q);
    if (attention.output_bias) layer.o_bias = Bias(hidden);
    layer.ffn_norm = Norm(hidden);
    if (layer_config.sparse) {
      layer.router = Matrix(config.router.num_experts, hidden);
      for (int e = 0; e < config.router.num_experts; ++e)
        layer.experts.push_back(Ffn(config.expert_ffn_size));
      if (config.shared_ffn_size > 0) layer.shared = Ffn(config.shared_ffn_size);
      if (config.shared_gate) layer.shared_gate = Matrix(1, hidden);
    } else {
      layer.dense = Ffn(config.dense_ffn_size);
    }
    tensors_.layers.push_back(layer);
  }
  tensors_.final_norm = Norm(hidden);
  tensors_.lm_head =
      config.tied_embeddings ? tensors_.embedding : Matrix(config.vocab_size, hidden);
}

model::TensorView RandomCheckpoint::Draw(int64_t rows, int64_t cols, double mean,
                                         double deviation) {
  std::normal_distribution<double> normal(mean, deviation);
  const size_t element = dtype_ == DType::kF32 ? 4 : 2;
  std::vector<std::byte>& bytes = storage_.emplace_back(1 + rows * cols * element);
  for (int64_t i = 0; i < rows * cols; ++i) {
    const float value = static_cast<float>(normal(random_));
    const uint16_t half =
        dtype_ == DType::kBf16 ? kernels::Bf16FromFloat(value) : HalfFromFloat(value);
    std::memcpy(bytes.data() + 1 + i * element,
                dtype_ == DType::kF32 ? static_cast<const void*>(&value) : &half, element);
  }
  return {.dtype = dtype_, .rows = rows, .cols = cols, .data = bytes.data() + 1};
}

model::TensorView RandomCheckpoint::Matrix(int64_t rows, int64_t cols) {
  return Draw(rows, cols, 0, 1.5 / std::sqrt(static_cast<double>(cols)));
}

model::FfnTensors RandomCheckpoint::Ffn(int64_t size) {
  return {.gate = Matrix(size, config_.hidden_size),
          .up = Matrix(size, config_.hidden_size),
          .down = Matrix(config_.hidden_size, size)};
}

model::ModelConfig SmallModelConfig() {
  model::ModelConfig config;
  config.family = "test";
  config.hidden_size = 43;
  config.vocab_size = 101;
  config.max_context = 512;
  config.rms_norm_eps = 1e-5f;
  config.attention = {.num_heads = 6, .num_kv_heads = 2, .head_dim = 10};
  config.router = {.num_experts = 11, .top_k = 3, .renormalize = true};
  config.expert_ffn_size = 37;
  config.layers.resize(2);
  return config;
}

}  // namespace sluice::testing
