#include "model/families/decoder_tensors.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace sluice::model {
namespace {

constexpr FfnNames kMlpNames{.gate = "gate_proj", .up = "up_proj", .down = "down_proj"};

absl::Status BindAttention(const TensorFinder& finder, const ModelConfig& config,
                           const std::string& prefix, LayerTensors& tensors) {
  const AttentionConfig& attention = config.attention;
  const int hidden = config.hidden_size;
  const int q = attention.num_heads * attention.head_dim;
  const int kv = attention.num_kv_heads * attention.head_dim;
  const std::string self = absl::StrCat(prefix, "self_attn.");
  ASSIGN_OR_RETURN(tensors.q, finder.Matrix(self + "q_proj.weight", q, hidden));
  ASSIGN_OR_RETURN(tensors.k, finder.Matrix(self + "k_proj.weight", kv, hidden));
  ASSIGN_OR_RETURN(tensors.v, finder.Matrix(self + "v_proj.weight", kv, hidden));
  ASSIGN_OR_RETURN(tensors.o, finder.Matrix(self + "o_proj.weight", hidden, q));
  if (attention.qkv_bias) {
    ASSIGN_OR_RETURN(tensors.q_bias, finder.Vector(self + "q_proj.bias", q));
    ASSIGN_OR_RETURN(tensors.k_bias, finder.Vector(self + "k_proj.bias", kv));
    ASSIGN_OR_RETURN(tensors.v_bias, finder.Vector(self + "v_proj.bias", kv));
  }
  if (attention.output_bias) {
    ASSIGN_OR_RETURN(tensors.o_bias, finder.Vector(self + "o_proj.bias", hidden));
  }
  if (attention.qk_norm != QkNorm::kNone) {
    const bool per_head = attention.qk_norm == QkNorm::kPerHead;
    ASSIGN_OR_RETURN(tensors.q_norm,
                     finder.Vector(self + "q_norm.weight", per_head ? attention.head_dim : q));
    ASSIGN_OR_RETURN(tensors.k_norm,
                     finder.Vector(self + "k_norm.weight", per_head ? attention.head_dim : kv));
  }
  return absl::OkStatus();
}

bool SameContents(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.bytes() == b.bytes() &&
         std::memcmp(a.data, b.data, a.bytes()) == 0;
}

// Tied embeddings may be stored twice. As in transformers 5, a second copy that is not equal means
// that they were untied without saying so in config.json.
absl::Status BindHead(const TensorFinder& finder, const ModelConfig& config,
                      ModelTensors& tensors) {
  constexpr char kName[] = "lm_head.weight";
  tensors.lm_head = tensors.embedding;
  if (config.tied_embeddings && !finder.Has(kName)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const TensorView head,
                   finder.Matrix(kName, config.vocab_size, config.hidden_size));
  const bool tied = config.tied_embeddings && SameContents(head, tensors.embedding);
  if (!tied) tensors.lm_head = head;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelTensors> BindDecoder(const TensorFinder& finder, const ModelConfig& config,
                                         BindFfnPart bind_ffn) {
  const int hidden = config.hidden_size;
  ModelTensors tensors;
  ASSIGN_OR_RETURN(tensors.embedding,
                   finder.Matrix("model.embed_tokens.weight", config.vocab_size, hidden));
  for (int i = 0; i < config.num_layers(); ++i) {
    const std::string prefix = absl::StrCat("model.layers.", i, ".");
    LayerTensors layer;
    ASSIGN_OR_RETURN(layer.attention_norm,
                     finder.Vector(prefix + "input_layernorm.weight", hidden));
    RETURN_IF_ERROR(BindAttention(finder, config, prefix, layer));
    ASSIGN_OR_RETURN(layer.ffn_norm,
                     finder.Vector(prefix + "post_attention_layernorm.weight", hidden));
    RETURN_IF_ERROR(bind_ffn(finder, config, config.layers[i], prefix, layer));
    tensors.layers.push_back(std::move(layer));
  }
  ASSIGN_OR_RETURN(tensors.final_norm, finder.Vector("model.norm.weight", hidden));
  RETURN_IF_ERROR(BindHead(finder, config, tensors));
  return tensors;
}

absl::StatusOr<FfnTensors> BindFfn(const TensorFinder& finder, const std::string& prefix,
                                   const FfnNames& names, int width, int hidden_size) {
  const auto matrix = [&](const char* name, int rows, int cols) {
    return finder.Matrix(absl::StrCat(prefix, name, ".weight"), rows, cols);
  };
  FfnTensors ffn;
  ASSIGN_OR_RETURN(ffn.gate, matrix(names.gate, width, hidden_size));
  ASSIGN_OR_RETURN(ffn.up, matrix(names.up, width, hidden_size));
  ASSIGN_OR_RETURN(ffn.down, matrix(names.down, hidden_size, width));
  return ffn;
}

absl::Status BindExperts(const TensorFinder& finder, const ModelConfig& config,
                         const std::string& prefix, const FfnNames& names, LayerTensors& tensors) {
  const int num_experts = config.router.num_experts;
  ASSIGN_OR_RETURN(tensors.router,
                   finder.Matrix(prefix + "gate.weight", num_experts, config.hidden_size));
  for (int i = 0; i < num_experts; ++i) {
    ASSIGN_OR_RETURN(FfnTensors expert, BindFfn(finder, absl::StrCat(prefix, "experts.", i, "."),
                                                names, config.expert_ffn_size, config.hidden_size));
    tensors.experts.push_back(expert);
  }
  return absl::OkStatus();
}

absl::Status BindMlp(const TensorFinder& finder, const ModelConfig& config,
                     const LayerConfig& layer, const std::string& prefix, LayerTensors& tensors) {
  const std::string mlp = absl::StrCat(prefix, "mlp.");
  const int hidden = config.hidden_size;
  if (!layer.sparse) {
    ASSIGN_OR_RETURN(tensors.dense, BindFfn(finder, mlp, kMlpNames, config.dense_ffn_size, hidden));
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(BindExperts(finder, config, mlp, kMlpNames, tensors));
  if (config.shared_ffn_size == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(tensors.shared, BindFfn(finder, mlp + "shared_expert.", kMlpNames,
                                           config.shared_ffn_size, hidden));
  if (config.shared_gate) {
    ASSIGN_OR_RETURN(tensors.shared_gate,
                     finder.Matrix(mlp + "shared_expert_gate.weight", 1, hidden));
  }
  return absl::OkStatus();
}

}  // namespace sluice::model
