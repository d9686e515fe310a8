// OLMoE (arXiv:2409.02060): q/k norms over the whole projection, optional clipping of q, k and v.
#include "base/status_macros.h"
#include "model/families/common.h"
#include "model/families/decoder_tensors.h"
#include "model/families/families.h"

namespace sluice::model {
namespace {

absl::StatusOr<ModelConfig> Translate(const JsonObject& in) {
  ASSIGN_OR_RETURN(ModelConfig config, TranslateDecoder(in, {.vocab_size = 50304,
                                                             .hidden_size = 2048,
                                                             .num_layers = 16,
                                                             .num_heads = 16,
                                                             .num_kv_heads = std::nullopt,
                                                             .max_positions = 4096,
                                                             .rms_norm_eps = 1e-5,
                                                             .rope_theta = 1e4}));
  config.attention.qk_norm = QkNorm::kFullProjection;
  ASSIGN_OR_RETURN(config.attention.qkv_bias, in.GetBool("attention_bias", false));
  config.attention.output_bias = config.attention.qkv_bias;
  ASSIGN_OR_RETURN(const auto clip, in.GetOptionalReal("clip_qkv", {.above_min = true}));
  if (clip) config.attention.clip_qkv = static_cast<float>(*clip);
  ASSIGN_OR_RETURN(config.router, TranslateRouter(in, 64, 8));
  ASSIGN_OR_RETURN(config.router.renormalize, in.GetBool("norm_topk_prob", false));
  ASSIGN_OR_RETURN(config.expert_ffn_size, TranslateWidth(in, "intermediate_size", 2048));
  return config;
}

absl::StatusOr<ModelTensors> Bind(const TensorFinder& finder, const ModelConfig& config) {
  return BindDecoder(finder, config, BindMlp);
}

}  // namespace

const Family kOlmoe{"olmoe", 50279, Translate, Bind};

}  // namespace sluice::model
