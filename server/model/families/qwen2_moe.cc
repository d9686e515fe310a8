// Qwen1.5 and Qwen2 MoE (arXiv:2407.10671): a shared expert behind a sigmoid gate, dense layers
// between, biases on q, k and v, sliding windows on some layers.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/families/common.h"
#include "model/families/decoder_tensors.h"
#include "model/families/families.h"

namespace sluice::model {
namespace {

// layer_types says which layers have the window; by default every other one of the first
// max_window_layers.
absl::Status TranslateWindows(const JsonObject& in, ModelConfig& config) {
  ASSIGN_OR_RETURN(const bool has_window, in.GetBool("use_sliding_window", false));
  ASSIGN_OR_RETURN(auto types, in.GetOptionalStrings("layer_types"));
  const int num_layers = config.num_layers();
  if (!types) {
    if (!has_window) return absl::OkStatus();
    ASSIGN_OR_RETURN(const int last, in.GetInt("max_window_layers", {.fallback = 28, .min = 0}));
    types.emplace(num_layers, "full_attention");
    for (int i = 0; i < std::min(last, num_layers); i += 2) (*types)[i] = "sliding_attention";
  }
  if (static_cast<int>(types->size()) != num_layers) {
    return in.Invalid("layer_types", absl::StrCat("a list with one entry for each of the ",
                                                  num_layers, " layers"));
  }
  for (int i = 0; i < num_layers; ++i) {
    const std::string& type = (*types)[i];
    if (type == "full_attention") continue;
    if (type != "sliding_attention") {
      return absl::UnimplementedError(absl::StrCat(in.file(), ": layer_types has ", Describe(type),
                                                   ", which is not supported"));
    }
    if (!has_window) {
      return in.Invalid("use_sliding_window", "true, as layer_types has sliding_attention");
    }
    ASSIGN_OR_RETURN(config.layers[i].sliding_window,
                     in.GetInt("sliding_window", {.fallback = 4096}));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> Translate(const JsonObject& in) {
  ASSIGN_OR_RETURN(ModelConfig config, TranslateDecoder(in, {.vocab_size = 151936,
                                                             .hidden_size = 2048,
                                                             .num_layers = 24,
                                                             .num_heads = 16,
                                                             .num_kv_heads = 16,
                                                             .max_positions = 32768,
                                                             .rms_norm_eps = 1e-6,
                                                             .rope_theta = 1e4}));
  RETURN_IF_ERROR(RefuseIfTrue(in, "attention_bias"));
  ASSIGN_OR_RETURN(config.attention.qkv_bias, in.GetBool("qkv_bias", true));
  ASSIGN_OR_RETURN(config.router, TranslateRouter(in, 60, 4));
  ASSIGN_OR_RETURN(config.router.renormalize, in.GetBool("norm_topk_prob", false));
  ASSIGN_OR_RETURN(config.expert_ffn_size, TranslateWidth(in, "moe_intermediate_size", 1408));
  ASSIGN_OR_RETURN(
      config.shared_ffn_size,
      in.GetInt("shared_expert_intermediate_size", {.fallback = 5632, .min = 0, .max = kMaxWidth}));
  config.shared_gate = config.shared_ffn_size > 0;
  RETURN_IF_ERROR(TranslateDenseLayers(in, 5632, config));
  RETURN_IF_ERROR(TranslateWindows(in, config));
  return config;
}

absl::StatusOr<ModelTensors> Bind(const TensorFinder& finder, const ModelConfig& config) {
  return BindDecoder(finder, config, BindMlp);
}

}  // namespace

const Family kQwen2Moe{"qwen2_moe", std::nullopt, Translate, Bind};

}  // namespace sluice::model
