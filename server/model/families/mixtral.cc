// Mixtral (arXiv:2401.04088): experts in every layer, top-k weights renormalized, one sliding
// window or none for all layers.
#include "base/status_macros.h"
#include "model/families/common.h"
#include "model/families/decoder_tensors.h"
#include "model/families/families.h"

namespace sluice::model {
namespace {

absl::StatusOr<ModelConfig> Translate(const JsonObject& in) {
  ASSIGN_OR_RETURN(ModelConfig config, TranslateDecoder(in, {.vocab_size = 32000,
                                                             .hidden_size = 4096,
                                                             .num_layers = 32,
                                                             .num_heads = 32,
                                                             .num_kv_heads = 8,
                                                             .max_positions = 131072,
                                                             .rms_norm_eps = 1e-5,
                                                             .rope_theta = 1e6}));
  RETURN_IF_ERROR(RefuseIfTrue(in, "attention_bias"));
  ASSIGN_OR_RETURN(config.router, TranslateRouter(in, 8, 2));
  config.router.renormalize = true;
  ASSIGN_OR_RETURN(config.expert_ffn_size, TranslateWidth(in, "intermediate_size", 14336));
  ASSIGN_OR_RETURN(const auto window, in.GetOptionalInt("sliding_window", {}));
  for (LayerConfig& layer : config.layers) layer.sliding_window = window;
  return config;
}

absl::Status BindMoe(const TensorFinder& finder, const ModelConfig& config, const LayerConfig&,
                     const std::string& prefix, LayerTensors& tensors) {
  constexpr FfnNames kNames{.gate = "w1", .up = "w3", .down = "w2"};
  return BindExperts(finder, config, prefix + "block_sparse_moe.", kNames, tensors);
}

absl::StatusOr<ModelTensors> Bind(const TensorFinder& finder, const ModelConfig& config) {
  return BindDecoder(finder, config, BindMoe);
}

}  // namespace

const Family kMixtral{"mixtral", 2, Translate, Bind};

}  // namespace sluice::model
