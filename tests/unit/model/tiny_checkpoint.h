// A checkpoint of a few hundred bytes, made in memory, that tests damage and write to a folder.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "model/checkpoint.h"

namespace sluice::model {

// File names of a folder and their contents.
using Files = std::map<std::string, std::string>;

// The parts of a safetensors file. Made and taken apart here independently of the code under test.
struct SafetensorsFile {
  nlohmann::ordered_json header;
  std::string data;
};
SafetensorsFile Unpack(const std::string& contents);
std::string Pack(const SafetensorsFile& file);
// With a header that need not be JSON.
std::string Pack(const std::string& header, const std::string& data);

// A qwen3_moe model: hidden size 4, 2 heads, 1 kv head, head_dim 2, 2 experts of width 2, one
// layer, 3 tokens; config.json, generation_config.json and model.safetensors. Each tensor's bytes
// differ from all others'.
Files TinyCheckpoint();

// The same in two shards with an index; the first has the tensors whose names come first.
Files TinyShardedCheckpoint();

inline constexpr char kShard1[] = "model-00001-of-00002.safetensors";
inline constexpr char kShard2[] = "model-00002-of-00002.safetensors";
inline constexpr char kIndex[] = "model.safetensors.index.json";

// A folder of its own in the temporary folder, removed with all it holds at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  // Makes the folder hold exactly `files`.
  void Fill(const Files& files) const;
  void Write(const std::string& name, const std::string& contents) const;

 private:
  std::string path_;
};

// Calls visit(name, view) for each tensor of the model; names as on the hub for all families but
// mixtral.
template <typename Visit>
void VisitTensors(const ModelTensors& tensors, Visit visit) {
  visit("model.embed_tokens.weight", tensors.embedding);
  visit("model.norm.weight", tensors.final_norm);
  visit("lm_head.weight", tensors.lm_head);
  const auto maybe = [&](const std::string& name, const std::optional<TensorView>& view) {
    if (view) visit(name, *view);
  };
  const auto visit_ffn = [&](const std::string& prefix, const FfnTensors& ffn) {
    visit(prefix + "gate_proj.weight", ffn.gate);
    visit(prefix + "up_proj.weight", ffn.up);
    visit(prefix + "down_proj.weight", ffn.down);
  };
  for (size_t i = 0; i < tensors.layers.size(); ++i) {
    const LayerTensors& layer = tensors.layers[i];
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    visit(prefix + "input_layernorm.weight", layer.attention_norm);
    visit(prefix + "self_attn.q_proj.weight", layer.q);
    visit(prefix + "self_attn.k_proj.weight", layer.k);
    visit(prefix + "self_attn.v_proj.weight", layer.v);
    visit(prefix + "self_attn.o_proj.weight", layer.o);
    maybe(prefix + "self_attn.q_proj.bias", layer.q_bias);
    maybe(prefix + "self_attn.k_proj.bias", layer.k_bias);
    maybe(prefix + "self_attn.v_proj.bias", layer.v_bias);
    maybe(prefix + "self_attn.o_proj.bias", layer.o_bias);
    maybe(prefix + "self_attn.q_norm.weight", layer.q_norm);
    maybe(prefix + "self_attn.k_norm.weight", layer.k_norm);
    visit(prefix + "post_attention_layernorm.weight", layer.ffn_norm);
    maybe(prefix + "mlp.gate.weight", layer.router);
    for (size_t e = 0; e < layer.experts.size(); ++e) {
      visit_ffn(prefix + "mlp.experts." + std::to_string(e) + ".", layer.experts[e]);
    }
    if (layer.shared) visit_ffn(prefix + "mlp.shared_expert.", *layer.shared);
    maybe(prefix + "mlp.shared_expert_gate.weight", layer.shared_gate);
    if (layer.dense) visit_ffn(prefix + "mlp.", *layer.dense);
  }
}

}  // namespace sluice::model
