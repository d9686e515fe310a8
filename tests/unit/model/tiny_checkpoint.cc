#include "tiny_checkpoint.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

namespace sluice::model {
namespace {

constexpr char kConfig[] = R"({
  "model_type": "qwen3_moe", "hidden_act": "silu", "vocab_size": 3, "hidden_size": 4,
  "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2,
  "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 2, "norm_topk_prob": true,
  "max_position_embeddings": 32, "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
  "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16},
  "mlp_only_layers": [], "decoder_sparse_step": 1, "use_sliding_window": true,
  "sliding_window": 8, "tie_word_embeddings": false, "attention_bias": false, "eos_token_id": 2
})";

constexpr char kGenerationConfig[] = R"({
  "eos_token_id": [1, 2], "do_sample": true, "temperature": 0.5, "top_k": 20, "top_p": 0.75,
  "min_p": 0.25, "typical_p": 0.5, "repetition_penalty": 1.5, "max_new_tokens": 64
})";

struct Shape {
  const char* name;
  std::vector<int> dims;
};

std::vector<Shape> TinyShapes() {
  return {{"lm_head.weight", {3, 4}},
          {"model.embed_tokens.weight", {3, 4}},
          {"model.layers.0.input_layernorm.weight", {4}},
          {"model.layers.0.mlp.experts.0.down_proj.weight", {4, 2}},
          {"model.layers.0.mlp.experts.0.gate_proj.weight", {2, 4}},
          {"model.layers.0.mlp.experts.0.up_proj.weight", {2, 4}},
          {"model.layers.0.mlp.experts.1.down_proj.weight", {4, 2}},
          {"model.layers.0.mlp.experts.1.gate_proj.weight", {2, 4}},
          {"model.layers.0.mlp.experts.1.up_proj.weight", {2, 4}},
          {"model.layers.0.mlp.gate.weight", {2, 4}},
          {"model.layers.0.post_attention_layernorm.weight", {4}},
          {"model.layers.0.self_attn.k_norm.weight", {2}},
          {"model.layers.0.self_attn.k_proj.weight", {2, 4}},
          {"model.layers.0.self_attn.o_proj.weight", {4, 4}},
          {"model.layers.0.self_attn.q_norm.weight", {2}},
          {"model.layers.0.self_attn.q_proj.weight", {4, 4}},
          {"model.layers.0.self_attn.v_proj.weight", {2, 4}},
          {"model.norm.weight", {4}}};
}

SafetensorsFile MakeTensors(size_t begin, size_t end) {
  const std::vector<Shape> shapes = TinyShapes();
  SafetensorsFile file;
  file.header["__metadata__"]["format"] = "pt";
  for (size_t i = begin; i < end; ++i) {
    size_t num_elements = 1;
    for (const int dim : shapes[i].dims) num_elements *= dim;
    const size_t offset = file.data.size();
    for (size_t j = 0; j < num_elements; ++j) {
      const float value = static_cast<float>(i) + static_cast<float>(j) / 64;
      char bytes[sizeof(value)];
      std::memcpy(bytes, &value, sizeof(value));
      file.data.append(bytes, sizeof(bytes));
    }
    file.header[shapes[i].name] = {
        {"dtype", "F32"}, {"shape", shapes[i].dims}, {"data_offsets", {offset, file.data.size()}}};
  }
  return file;
}

}  // namespace

SafetensorsFile Unpack(const std::string& contents) {
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, contents.data(), sizeof(header_bytes));
  return {nlohmann::ordered_json::parse(contents.substr(8, header_bytes)),
          contents.substr(8 + header_bytes)};
}

std::string Pack(const SafetensorsFile& file) { return Pack(file.header.dump(), file.data); }

std::string Pack(const std::string& header, const std::string& data) {
  const uint64_t header_bytes = header.size();
  std::string contents(sizeof(header_bytes), '\0');
  std::memcpy(contents.data(), &header_bytes, sizeof(header_bytes));
  return contents + header + data;
}

Files TinyCheckpoint() {
  return {{"config.json", kConfig},
          {"generation_config.json", kGenerationConfig},
          {"model.safetensors", Pack(MakeTensors(0, TinyShapes().size()))}};
}

Files TinyShardedCheckpoint() {
  const size_t num_tensors = TinyShapes().size();
  const SafetensorsFile first = MakeTensors(0, num_tensors / 2);
  const SafetensorsFile second = MakeTensors(num_tensors / 2, num_tensors);
  nlohmann::ordered_json index;
  index["metadata"]["total_size"] = first.data.size() + second.data.size();
  for (const auto& [file, name] : {std::pair(&first, kShard1), std::pair(&second, kShard2)}) {
    for (const auto& item : file->header.items()) {
      if (item.key() != "__metadata__") index["weight_map"][item.key()] = name;
    }
  }
  return {{"config.json", kConfig},
          {kIndex, index.dump(1)},
          {kShard1, Pack(first)},
          {kShard2, Pack(second)}};
}

TempFolder::TempFolder() : path_(std::filesystem::temp_directory_path() / "sluice_test_XXXXXX") {
  if (mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "cannot make a folder like " << path_;
}

TempFolder::~TempFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

void TempFolder::Fill(const Files& files) const {
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    std::filesystem::remove_all(entry.path());
  }
  for (const auto& [name, contents] : files) Write(name, contents);
}

void TempFolder::Write(const std::string& name, const std::string& contents) const {
  // Some file systems write a file to disk at once if it is truncated first.
  std::filesystem::remove(path_ + "/" + name);
  std::ofstream file(path_ + "/" + name, std::ios::binary);
  file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  ASSERT_TRUE(file.good()) << name;
}

}  // namespace sluice::model
