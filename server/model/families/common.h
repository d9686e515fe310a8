// What the families' config.json files have in common, read once for all of them. Defaults of
// absent fields are those of each family's configuration class in Hugging Face transformers, since
// files on the hub leave out what has its default.
#pragma once

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/config.h"
#include "model/json.h"

namespace sluice::model {

// Upper bounds on sizes, far above any model. With them a product of two fits 64 bits, and heads
// times head_dim 32.
inline constexpr int kMaxVocabSize = 1 << 24;
inline constexpr int kMaxWidth = 1 << 20;  // of the hidden state and of FFNs
inline constexpr int kMaxLayers = 1 << 12;
inline constexpr int kMaxHeads = 1 << 12;
inline constexpr int kMaxHeadDim = 1 << 12;
inline constexpr int kMaxExperts = 1 << 16;
inline constexpr int kMaxPositions = 1 << 30;

// A family's defaults for absent fields.
struct DecoderDefaults {
  int vocab_size;
  int hidden_size;
  int num_layers;
  int num_heads;
  // Absent: as many as num_heads. A null field means that in every family.
  std::optional<int> num_kv_heads;
  int max_positions;
  double rms_norm_eps;
  double rope_theta;
};

// The whole ModelConfig but for experts, biases, q/k norms and windows: all layers are sparse and
// see everything. UNIMPLEMENTED for fields that would change the maths in any family.
absl::StatusOr<ModelConfig> TranslateDecoder(const JsonObject& in, const DecoderDefaults& defaults);

// num_experts (which files also call num_local_experts) and num_experts_per_tok; not renormalized.
absl::StatusOr<RouterConfig> TranslateRouter(const JsonObject& in, int default_experts,
                                             int default_top_k);

// Width of an FFN: a required field unless there is a default.
absl::StatusOr<int> TranslateWidth(const JsonObject& in, const char* field, int fallback);

// Qwen's dense layers: those that mlp_only_layers lists, and all whose number, counted from one, is
// no multiple of decoder_sparse_step. Sets config.layers and config.dense_ffn_size.
absl::Status TranslateDenseLayers(const JsonObject& in, int default_dense_width,
                                  ModelConfig& config);

// rope_theta, rope_scaling and rope_parameters; defined in rope.cc.
absl::StatusOr<RopeConfig> TranslateRope(const JsonObject& in, double default_theta,
                                         int max_positions);

// UNIMPLEMENTED if the field is true.
absl::Status RefuseIfTrue(const JsonObject& in, const char* field);

}  // namespace sluice::model
