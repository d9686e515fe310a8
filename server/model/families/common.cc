#include "model/families/common.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace sluice::model {
namespace {

absl::Status CheckSupported(const JsonObject& in) {
  // "swish" is another name of silu.
  ASSIGN_OR_RETURN(const auto activation, in.GetOptionalString("hidden_act"));
  if (activation && *activation != "silu" && *activation != "swish") {
    return in.Unsupported("hidden_act");
  }
  ASSIGN_OR_RETURN(const double rotary,
                   in.GetReal("partial_rotary_factor", {.fallback = 1.0, .max = 1}));
  if (rotary != 1) return in.Unsupported("partial_rotary_factor");
  for (const char* field :
       {"quantization_config", "compression_config", "dual_chunk_attention_config"}) {
    if (in.Has(field)) return in.Unsupported(field);
  }
  return RefuseIfTrue(in, "mlp_bias");
}

absl::StatusOr<AttentionConfig> TranslateHeads(const JsonObject& in, int hidden_size,
                                               const DecoderDefaults& defaults) {
  AttentionConfig attention;
  ASSIGN_OR_RETURN(
      attention.num_heads,
      in.GetInt("num_attention_heads", {.fallback = defaults.num_heads, .max = kMaxHeads}));
  const IntRange kv_range{.max = attention.num_heads};
  ASSIGN_OR_RETURN(const auto kv_heads, in.GetOptionalInt("num_key_value_heads", kv_range));
  const bool null_kv_heads = in.Find("num_key_value_heads") != nullptr && !kv_heads;
  attention.num_kv_heads = kv_heads        ? *kv_heads
                           : null_kv_heads ? attention.num_heads
                                           : defaults.num_kv_heads.value_or(attention.num_heads);
  if (attention.num_heads % attention.num_kv_heads != 0) {
    return in.Invalid(
        "num_key_value_heads",
        absl::StrCat(
            "a divisor of num_attention_heads, ", attention.num_heads,
            kv_heads ? "" : absl::StrCat(", unlike its default ", attention.num_kv_heads)));
  }
  ASSIGN_OR_RETURN(const auto head_dim, in.GetOptionalInt("head_dim", {.max = kMaxHeadDim}));
  attention.head_dim = head_dim.value_or(hidden_size / attention.num_heads);
  if (!head_dim && (hidden_size % attention.num_heads != 0 || attention.head_dim > kMaxHeadDim)) {
    return in.Invalid("head_dim", absl::StrCat("given: hidden_size / num_attention_heads is ",
                                               hidden_size, " / ", attention.num_heads));
  }
  // Rotary embedding turns pairs.
  if (attention.head_dim % 2 != 0) {
    return in.Invalid("head_dim", absl::StrCat("even, not ", attention.head_dim));
  }
  return attention;
}

}  // namespace

absl::StatusOr<ModelConfig> TranslateDecoder(const JsonObject& in,
                                             const DecoderDefaults& defaults) {
  RETURN_IF_ERROR(CheckSupported(in));
  ModelConfig config;
  ASSIGN_OR_RETURN(const auto model_type, in.GetOptionalString("model_type"));
  config.family = model_type.value_or("");
  ASSIGN_OR_RETURN(config.vocab_size, in.GetInt("vocab_size", {.fallback = defaults.vocab_size,
                                                               .max = kMaxVocabSize}));
  ASSIGN_OR_RETURN(config.hidden_size,
                   in.GetInt("hidden_size", {.fallback = defaults.hidden_size, .max = kMaxWidth}));
  ASSIGN_OR_RETURN(
      const int num_layers,
      in.GetInt("num_hidden_layers", {.fallback = defaults.num_layers, .max = kMaxLayers}));
  config.layers.resize(num_layers);
  ASSIGN_OR_RETURN(const int max_positions,
                   in.GetInt("max_position_embeddings",
                             {.fallback = defaults.max_positions, .max = kMaxPositions}));
  ASSIGN_OR_RETURN(
      const double eps,
      in.GetReal("rms_norm_eps", {.fallback = defaults.rms_norm_eps, .min = 1e-12, .max = 1}));
  config.rms_norm_eps = static_cast<float>(eps);
  ASSIGN_OR_RETURN(config.tied_embeddings, in.GetBool("tie_word_embeddings", false));
  ASSIGN_OR_RETURN(config.attention, TranslateHeads(in, config.hidden_size, defaults));
  ASSIGN_OR_RETURN(config.attention.rope, TranslateRope(in, defaults.rope_theta, max_positions));
  // YaRN is added to models afterwards, with max_position_embeddings left as it was.
  config.max_context = std::max<int64_t>(max_positions, config.attention.rope.stretched_positions);
  return config;
}

absl::StatusOr<RouterConfig> TranslateRouter(const JsonObject& in, int default_experts,
                                             int default_top_k) {
  const IntRange experts_range{.max = kMaxExperts};
  ASSIGN_OR_RETURN(const auto experts, in.GetOptionalInt("num_experts", experts_range));
  ASSIGN_OR_RETURN(const auto local, in.GetOptionalInt("num_local_experts", experts_range));
  if (experts && local && *experts != *local) {
    return in.Invalid("num_local_experts", absl::StrCat("the same as num_experts, ", *experts));
  }
  RouterConfig router;
  router.num_experts = experts ? *experts : local.value_or(default_experts);
  ASSIGN_OR_RETURN(router.top_k, in.GetInt("num_experts_per_tok", {.fallback = default_top_k}));
  if (router.top_k > router.num_experts) {
    const bool given = in.Has("num_experts_per_tok");
    return in.Invalid(
        "num_experts_per_tok",
        absl::StrCat("at most the number of experts, ", router.num_experts,
                     given ? "" : absl::StrCat(", unlike its default ", default_top_k)));
  }
  return router;
}

absl::StatusOr<int> TranslateWidth(const JsonObject& in, const char* field, int fallback) {
  return in.GetInt(field, {.fallback = fallback, .max = kMaxWidth});
}

absl::Status TranslateDenseLayers(const JsonObject& in, int default_dense_width,
                                  ModelConfig& config) {
  const int num_layers = config.num_layers();
  ASSIGN_OR_RETURN(const int step, in.GetInt("decoder_sparse_step", {.fallback = 1}));
  ASSIGN_OR_RETURN(const auto dense,
                   in.GetInts("mlp_only_layers", {.min = 0, .max = num_layers - 1}));
  bool any_dense = false;
  for (int i = 0; i < num_layers; ++i) config.layers[i].sparse = (i + 1) % step == 0;
  for (const int i : dense) config.layers[i].sparse = false;
  for (const LayerConfig& layer : config.layers) any_dense |= !layer.sparse;
  if (!any_dense) return absl::OkStatus();
  ASSIGN_OR_RETURN(config.dense_ffn_size,
                   TranslateWidth(in, "intermediate_size", default_dense_width));
  return absl::OkStatus();
}

absl::Status RefuseIfTrue(const JsonObject& in, const char* field) {
  ASSIGN_OR_RETURN(const bool value, in.GetBool(field, false));
  return value ? in.Unsupported(field) : absl::OkStatus();
}

}  // namespace sluice::model
