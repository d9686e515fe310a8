// ModelConfig: everything about a model that the forward pass needs to know, in one plain struct. A
// family translates the checkpoint's config.json into it; nothing else in Sluice knows hub field
// names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/token.h"

namespace sluice::model {

// Rotary position embedding over pairs (i, i + head_dim/2) of each query and key head ("split
// halves").
struct RopeConfig {
  enum class Scaling { kNone, kLinear, kLlama3, kYarn };

  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  // kLlama3 and kYarn: the context the model was trained with.
  int64_t original_max_positions = 0;
  // kLlama3: wavelengths beyond original/low are divided by factor, those below original/high are
  // left alone.
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  // kYarn (arXiv:2309.00071): rotations at which the ramp between both treatments begins and ends.
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  // kYarn: cos and sin are multiplied by this.
  double attention_factor = 1.0;
  // kYarn: original_max_positions * factor, if the checkpoint states the former; otherwise 0.
  int64_t stretched_positions = 0;
  // kYarn: whether the ramp's limits are rounded outwards.
  bool truncate = true;
};

// Where RMSNorm is applied to queries and keys, before RoPE.
enum class QkNorm {
  kNone,
  kPerHead,         // one weight of head_dim for all heads
  kFullProjection,  // over all heads together
};

struct AttentionConfig {
  int num_heads = 0;
  int num_kv_heads = 0;  // divides num_heads
  int head_dim = 0;
  bool qkv_bias = false;
  bool output_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  // Clamp q, k and v to [-x, x], after the norms.
  std::optional<float> clip_qkv;
  RopeConfig rope;
};

// How a token's experts and their weights are chosen: softmax over all experts, the top_k best
// (ties to the lower id), and their probabilities, divided by their sum if `renormalize`.
struct RouterConfig {
  int num_experts = 0;
  int top_k = 0;
  bool renormalize = false;
};

struct LayerConfig {
  // Routed experts, or (false) one dense FFN.
  bool sparse = true;
  // Position i sees j with i - window < j <= i; absent: all j <= i.
  std::optional<int64_t> sliding_window;
};

struct ModelConfig {
  // `model_type` of the checkpoint.
  std::string family;
  int hidden_size = 0;
  int vocab_size = 0;
  // The longest prompt and answer together.
  int64_t max_context = 0;
  float rms_norm_eps = 0;
  // The head is the embedding.
  bool tied_embeddings = false;
  AttentionConfig attention;
  RouterConfig router;
  // Width of a routed expert, of the dense layers' FFN (0: there are none) and of the shared expert
  // (0: there is none).
  int expert_ffn_size = 0;
  int dense_ffn_size = 0;
  int shared_ffn_size = 0;
  // Whether the shared expert's output is multiplied by sigmoid(shared_gate . x).
  bool shared_gate = false;
  // One entry per decoder layer.
  std::vector<LayerConfig> layers;

  int num_layers() const { return static_cast<int>(layers.size()); }
};

// What the checkpoint's generation_config.json says about its use; absent fields are absent there.
struct GenerationDefaults {
  // Those of config.json if generation_config.json has none. May be beyond the vocabulary.
  std::vector<TokenId> eos_token_ids;
  bool do_sample = false;
  std::optional<float> temperature;
  std::optional<int> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> typical_p;
  std::optional<float> repetition_penalty;
  std::optional<int> max_new_tokens;
};

}  // namespace sluice::model
