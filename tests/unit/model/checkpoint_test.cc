#include "model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tiny_checkpoint.h"

namespace sluice::model {
namespace {

using ::testing::ElementsAre;

std::string Golden(const std::string& name) {
  return std::string(SLUICE_SOURCE_DIR "/tests/golden/models/") + name;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string Bytes(const TensorView& view) {
  return {reinterpret_cast<const char*>(view.data), view.bytes()};
}

// A tensor as this test reads it from a file, without the code under test.
struct Expected {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

std::map<std::string, Expected> ReadTensors(const std::vector<std::string>& paths) {
  std::map<std::string, Expected> tensors;
  for (const std::string& path : paths) {
    const SafetensorsFile file = Unpack(ReadFile(path));
    for (const auto& [name, entry] : file.header.items()) {
      if (name == "__metadata__") continue;
      const size_t begin = entry["data_offsets"][0];
      const size_t end = entry["data_offsets"][1];
      tensors[name] = {entry["dtype"], entry["shape"], file.data.substr(begin, end - begin)};
    }
  }
  return tensors;
}

// VisitTensors' names to those of mixtral files.
std::string MixtralName(std::string name) {
  const auto replace = [&](const std::string& from, const std::string& to) {
    const size_t at = name.find(from);
    if (at != std::string::npos) name.replace(at, from.size(), to);
  };
  if (name.find(".mlp.") == std::string::npos) return name;
  replace(".mlp.", ".block_sparse_moe.");
  replace("gate_proj", "w1");
  replace("up_proj", "w3");
  replace("down_proj", "w2");
  return name;
}

struct GoldenCase {
  const char* name;
  DType dtype;
  int hidden, vocab, heads, kv_heads, head_dim, experts, top_k, expert_ffn, shared_ffn;
  int64_t max_context;
  double theta;
  float eps;
  bool renormalize, qkv_bias;
  QkNorm qk_norm;
};

class GoldenCheckpointTest : public testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenCheckpointTest, HasTheConfigurationOfItsConfigJson) {
  const GoldenCase& want = GetParam();
  const auto checkpoint = Checkpoint::Open(Golden(want.name));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const ModelConfig& config = (*checkpoint)->config();
  EXPECT_EQ(config.family, std::string(want.name).substr(0, std::string(want.name).find('-')));
  EXPECT_EQ(config.num_layers(), 2);
  EXPECT_EQ(config.hidden_size, want.hidden);
  EXPECT_EQ(config.vocab_size, want.vocab);
  EXPECT_EQ(config.max_context, want.max_context);
  EXPECT_EQ(config.rms_norm_eps, want.eps);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_EQ(config.attention.num_heads, want.heads);
  EXPECT_EQ(config.attention.num_kv_heads, want.kv_heads);
  EXPECT_EQ(config.attention.head_dim, want.head_dim);
  EXPECT_EQ(config.attention.qkv_bias, want.qkv_bias);
  EXPECT_FALSE(config.attention.output_bias);
  EXPECT_EQ(config.attention.qk_norm, want.qk_norm);
  EXPECT_EQ(config.attention.clip_qkv, std::nullopt);
  EXPECT_EQ(config.attention.rope.theta, want.theta);
  EXPECT_EQ(config.router.num_experts, want.experts);
  EXPECT_EQ(config.router.top_k, want.top_k);
  EXPECT_EQ(config.router.renormalize, want.renormalize);
  EXPECT_EQ(config.expert_ffn_size, want.expert_ffn);
  EXPECT_EQ(config.shared_ffn_size, want.shared_ffn);
  EXPECT_EQ(config.shared_gate, want.shared_ffn > 0);
  EXPECT_EQ(config.dense_ffn_size, 0);
  for (const LayerConfig& layer : config.layers) {
    EXPECT_TRUE(layer.sparse);
    EXPECT_EQ(layer.sliding_window, std::nullopt);
  }
  EXPECT_THAT((*checkpoint)->generation_defaults().eos_token_ids, ElementsAre(2));
}

TEST_P(GoldenCheckpointTest, ViewsHoldTheFilesBytes) {
  const GoldenCase& want = GetParam();
  std::vector<std::string> paths = {Golden(want.name) + "/model.safetensors"};
  if (std::string(want.name) == "qwen3_moe-sharded") {
    paths.clear();
    for (const char* i : {"1", "2", "3"}) {
      paths.push_back(Golden(want.name) + "/model-0000" + i + "-of-00003.safetensors");
    }
  }
  std::map<std::string, Expected> expected = ReadTensors(paths);
  const auto checkpoint = Checkpoint::Open(Golden(want.name));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const bool mixtral = (*checkpoint)->config().family == "mixtral";
  VisitTensors((*checkpoint)->tensors(), [&](std::string name, const TensorView& view) {
    if (mixtral) name = MixtralName(name);
    ASSERT_EQ(expected.count(name), 1) << name;
    const Expected& tensor = expected[name];
    EXPECT_EQ(view.dtype, want.dtype) << name;
    EXPECT_EQ(view.rows, tensor.shape.size() == 2 ? tensor.shape[0] : 1) << name;
    EXPECT_EQ(view.cols, tensor.shape.back()) << name;
    EXPECT_TRUE(Bytes(view) == tensor.bytes) << name;
    expected.erase(name);
  });
  EXPECT_TRUE(expected.empty()) << "not bound: " << expected.begin()->first;
}

constexpr QkNorm kNone = QkNorm::kNone;
constexpr QkNorm kPerHead = QkNorm::kPerHead;
constexpr QkNorm kFull = QkNorm::kFullProjection;

INSTANTIATE_TEST_SUITE_P(
    Models, GoldenCheckpointTest,
    testing::Values(GoldenCase{"mixtral", DType::kF32, 64, 256, 4, 2, 16, 8, 2, 24, 0, 32768, 1e6,
                               1e-5f, true, false, kNone},
                    GoldenCase{"mixtral-bf16", DType::kBf16, 64, 256, 4, 2, 16, 8, 2, 24, 0, 32768,
                               1e6, 1e-5f, true, false, kNone},
                    GoldenCase{"mixtral-fp16", DType::kF16, 64, 256, 4, 2, 16, 8, 2, 24, 0, 32768,
                               1e6, 1e-5f, true, false, kNone},
                    GoldenCase{"olmoe", DType::kF32, 32, 208, 4, 4, 8, 16, 4, 24, 0, 4096, 1e4,
                               1e-5f, false, false, kFull},
                    GoldenCase{"qwen2_moe", DType::kF32, 40, 208, 4, 4, 10, 8, 4, 24, 40, 8192, 1e6,
                               1e-6f, false, true, kNone},
                    GoldenCase{"qwen3_moe", DType::kF32, 64, 256, 4, 2, 24, 8, 2, 20, 0, 40960, 1e6,
                               1e-6f, true, false, kPerHead},
                    GoldenCase{"qwen3_moe-sharded", DType::kF32, 64, 256, 4, 2, 24, 8, 2, 20, 0,
                               40960, 1e6, 1e-6f, true, false, kPerHead},
                    GoldenCase{"qwen3_moe-v5config", DType::kF32, 32, 192, 4, 2, 16, 8, 2, 20, 0,
                               256, 1e6, 1e-6f, false, false, kPerHead}),
    [](const auto& test) {
      std::string name = test.param.name;
      for (char& c : name) c = c == '-' ? '_' : c;
      return name;
    });

TEST(CheckpointTest, OpensTheBundledModelWhoseEmbeddingsAreTied) {
  const auto checkpoint = Checkpoint::Open(SLUICE_SOURCE_DIR "/models/demo");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE((*checkpoint)->config().tied_embeddings);
  EXPECT_EQ((*checkpoint)->tensors().lm_head.data, (*checkpoint)->tensors().embedding.data);
  EXPECT_EQ((*checkpoint)->tensors().layers.size(), 6);
  EXPECT_EQ((*checkpoint)->generation_defaults().max_new_tokens, 256);
  EXPECT_THAT((*checkpoint)->generation_defaults().eos_token_ids, ElementsAre(1));
}

TEST(CheckpointTest, ReadsTheYarnOfAVersion5Config) {
  const auto checkpoint = Checkpoint::Open(Golden("qwen3_moe-v5config"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const RopeConfig& rope = (*checkpoint)->config().attention.rope;
  EXPECT_EQ(rope.scaling, RopeConfig::Scaling::kYarn);
  EXPECT_EQ(rope.factor, 4.0);
  EXPECT_EQ(rope.original_max_positions, 64);
  EXPECT_DOUBLE_EQ(rope.attention_factor, 1.1386294361119891);  // 0.1 ln 4 + 1
}

TEST(CheckpointTest, ReadsGenerationDefaults) {
  const TempFolder folder;
  folder.Fill(TinyCheckpoint());
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const GenerationDefaults& defaults = (*checkpoint)->generation_defaults();
  EXPECT_THAT(defaults.eos_token_ids, ElementsAre(1, 2));
  EXPECT_TRUE(defaults.do_sample);
  EXPECT_EQ(defaults.temperature, 0.5f);
  EXPECT_EQ(defaults.top_k, 20);
  EXPECT_EQ(defaults.top_p, 0.75f);
  EXPECT_EQ(defaults.min_p, 0.25f);
  EXPECT_EQ(defaults.typical_p, 0.5f);
  EXPECT_EQ(defaults.repetition_penalty, 1.5f);
  EXPECT_EQ(defaults.max_new_tokens, 64);
}

TEST(CheckpointTest, EndTokensComeFromGenerationConfigThenConfigThenTheFamily) {
  struct Case {
    const char* config;
    const char* generation;  // nullptr: no such file
    std::vector<TokenId> want;
  };
  const Case kCases[] = {
      {R"({"eos_token_id": 2})", R"({"eos_token_id": 1})", {1}},
      {R"({"eos_token_id": 2})", R"({"eos_token_id": null})", {2}},
      {R"({"eos_token_id": [2, 0]})", R"({})", {2, 0}},
      {R"({"eos_token_id": 2})", nullptr, {2}},
      {R"({"eos_token_id": null})", nullptr, {}},
      {R"({})", nullptr, {}},
  };
  for (const Case& test : kCases) {
    Files files = TinyCheckpoint();
    nlohmann::json config = nlohmann::json::parse(files["config.json"]);
    config.erase("eos_token_id");
    config.update(nlohmann::json::parse(test.config));
    files["config.json"] = config.dump();
    files.erase("generation_config.json");
    if (test.generation != nullptr) files["generation_config.json"] = test.generation;
    const TempFolder folder;
    folder.Fill(files);
    const auto checkpoint = Checkpoint::Open(folder.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ((*checkpoint)->generation_defaults().eos_token_ids, test.want) << test.config;
  }
}

TEST(CheckpointTest, OpensShardsLikeASingleFile) {
  const TempFolder single_folder;
  single_folder.Fill(TinyCheckpoint());
  const TempFolder sharded_folder;
  sharded_folder.Fill(TinyShardedCheckpoint());
  const auto single = Checkpoint::Open(single_folder.path());
  const auto sharded = Checkpoint::Open(sharded_folder.path());
  ASSERT_TRUE(single.ok()) << single.status();
  ASSERT_TRUE(sharded.ok()) << sharded.status();
  std::map<std::string, std::string> want;
  VisitTensors((*single)->tensors(),
               [&](const std::string& name, const TensorView& v) { want[name] = Bytes(v); });
  std::set<std::string> distinct;
  for (const auto& [name, bytes] : want) distinct.insert(bytes);
  ASSERT_EQ(distinct.size(), want.size());
  VisitTensors((*sharded)->tensors(), [&](const std::string& name, const TensorView& v) {
    EXPECT_TRUE(want[name] == Bytes(v)) << name;
    want.erase(name);
  });
  EXPECT_TRUE(want.empty());
}

// What is beside the model's own tensors is passed over, whatever its type: more layers than the
// model has, types that the format may get later, empty tensors.
TEST(CheckpointTest, PassesOverTensorsThatAreNotNeeded) {
  Files files = TinyCheckpoint();
  SafetensorsFile file = Unpack(files["model.safetensors"]);
  const size_t end = file.data.size();
  file.data += "12345678";
  file.header["model.layers.1.x"] = {
      {"dtype", "I64"}, {"shape", nlohmann::json::array()}, {"data_offsets", {end, end + 8}}};
  file.header["empty"] = {
      {"dtype", "F32"}, {"shape", {0, 5}}, {"data_offsets", {end + 8, end + 8}}};
  file.data += "abc";
  file.header["later"] = {
      {"dtype", "F3_E1M1"}, {"shape", {8}}, {"data_offsets", {end + 8, end + 11}}};
  files["model.safetensors"] = Pack(file);
  const TempFolder folder;
  folder.Fill(files);
  const auto checkpoint = Checkpoint::Open(folder.path());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
}

TEST(CheckpointTest, AHeaderMayBePaddedAndItsTensorsInAnyOrder) {
  Files files = TinyCheckpoint();
  SafetensorsFile file = Unpack(files["model.safetensors"]);
  nlohmann::ordered_json reversed;
  std::vector<std::string> names;
  for (const auto& item : file.header.items()) names.push_back(item.key());
  for (auto it = names.rbegin(); it != names.rend(); ++it) reversed[*it] = file.header[*it];
  files["model.safetensors"] = Pack(reversed.dump() + "     ", file.data);
  const TempFolder folder;
  folder.Fill(files);
  const auto checkpoint = Checkpoint::Open(folder.path());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
}

TEST(CheckpointTest, TiedEmbeddingsNeedNoHeadAndAnUnequalHeadUntiesThem) {
  Files files = TinyCheckpoint();
  nlohmann::json config = nlohmann::json::parse(files["config.json"]);
  config["tie_word_embeddings"] = true;
  files["config.json"] = config.dump();
  SafetensorsFile file = Unpack(files["model.safetensors"]);
  const TempFolder folder;
  const auto is_tied = [&] {
    files["model.safetensors"] = Pack(file);
    folder.Fill(files);
    const auto checkpoint = Checkpoint::Open(folder.path());
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    const ModelTensors& tensors = (*checkpoint)->tensors();
    const bool tied = tensors.lm_head.data == tensors.embedding.data;
    EXPECT_EQ((*checkpoint)->config().tied_embeddings, tied);
    return tied;
  };
  EXPECT_FALSE(is_tied()) << "the head is there and differs";
  // The head's data come first in the file, the embedding's next.
  const size_t bytes = 3 * 4 * sizeof(float);
  file.data.replace(0, bytes, file.data.substr(bytes, bytes));
  EXPECT_TRUE(is_tied()) << "the head is there and is the same";
  file.header["something.else"] = file.header["lm_head.weight"];
  file.header.erase("lm_head.weight");
  EXPECT_TRUE(is_tied()) << "there is no head";
}

// The resident bytes of the mapping of `path`, as the kernel counts them.
size_t ResidentBytes(const std::string& path) {
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  size_t total = 0;
  for (std::string line; std::getline(smaps, line);) {
    if (line.find('-') < line.find(' ')) inside = line.find(path) != std::string::npos;
    if (inside && line.rfind("Rss:", 0) == 0) total += std::stoul(line.substr(4)) * 1024;
  }
  return total;
}

TEST(CheckpointTest, ReleaseGivesBackATensorsPagesAndItCanBeReadAgain) {
  const std::string path = Golden("qwen3_moe");
  const auto checkpoint = Checkpoint::Open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  std::map<std::string, std::string> contents;
  const auto read_all = [&](bool compare) {
    VisitTensors((*checkpoint)->tensors(), [&](const std::string& name, const TensorView& view) {
      EXPECT_TRUE(!compare || contents[name] == Bytes(view)) << name;
      contents[name] = Bytes(view);
    });
  };
  read_all(/*compare=*/false);
  const TensorView& embedding = (*checkpoint)->tensors().embedding;
  const size_t before = ResidentBytes(path + "/model.safetensors");
  (*checkpoint)->Release(embedding);
  const size_t after = ResidentBytes(path + "/model.safetensors");
  EXPECT_LE(after + embedding.bytes(), before + 2 * static_cast<size_t>(getpagesize()));
  read_all(/*compare=*/true);
  VisitTensors((*checkpoint)->tensors(),
               [&](const std::string&, const TensorView& view) { (*checkpoint)->Release(view); });
  read_all(/*compare=*/true);
}

}  // namespace
}  // namespace sluice::model
