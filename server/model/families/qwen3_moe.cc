// Qwen3 MoE (arXiv:2505.09388): per-head q/k norms, dense layers between, one sliding window for
// all layers if any.
#include "base/status_macros.h"
#include "model/families/common.h"
#include "model/families/decoder_tensors.h"
#include "model/families/families.h"

namespace sluice::model {
namespace {

absl::StatusOr<ModelConfig> Translate(const JsonObject& in) {
  ASSIGN_OR_RETURN(ModelConfig config, TranslateDecoder(in, {.vocab_size = 151936,
                                                             .hidden_size = 2048,
                                                             .num_layers = 24,
                                                             .num_heads = 32,
                                                             .num_kv_heads = 4,
                                                             .max_positions = 32768,
                                                             .rms_norm_eps = 1e-6,
                                                             .rope_theta = 1e4}));
  config.attention.qk_norm = QkNorm::kPerHead;
  ASSIGN_OR_RETURN(config.attention.qkv_bias, in.GetBool("attention_bias", false));
  config.attention.output_bias = config.attention.qkv_bias;
  ASSIGN_OR_RETURN(config.router, TranslateRouter(in, 128, 8));
  ASSIGN_OR_RETURN(config.router.renormalize, in.GetBool("norm_topk_prob", false));
  ASSIGN_OR_RETURN(config.expert_ffn_size, TranslateWidth(in, "moe_intermediate_size", 768));
  RETURN_IF_ERROR(TranslateDenseLayers(in, 6144, config));
  ASSIGN_OR_RETURN(const bool has_window, in.GetBool("use_sliding_window", false));
  if (has_window) {
    const bool absent = in.Find("sliding_window") == nullptr;
    ASSIGN_OR_RETURN(const auto window, in.GetOptionalInt("sliding_window", {}));
    for (LayerConfig& layer : config.layers) layer.sliding_window = absent ? 4096 : window;
  }
  return config;
}

absl::StatusOr<ModelTensors> Bind(const TensorFinder& finder, const ModelConfig& config) {
  return BindDecoder(finder, config, BindMlp);
}

}  // namespace

const Family kQwen3Moe{"qwen3_moe", std::nullopt, Translate, Bind};

}  // namespace sluice::model
