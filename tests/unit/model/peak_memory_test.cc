// Loading a checkpoint keeps resident what it packs, and of the source only what it packs just now:
// weights of many gigabytes fit into a machine that could not hold them twice.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "model/cpu_model_runner.h"
#include "model/weights.h"
#include "tiny_checkpoint.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLUICE_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLUICE_SANITIZED
#endif

namespace sluice::model {
namespace {

// The most that loading may keep resident beyond the weights' own size, relative to that.
constexpr double kMostOfPacked = 1.1;
// What a runner has anyway: code that is run for the first time, stacks, and scratch memory.
constexpr int64_t kProcessBytes = 16 << 20;

constexpr int kHidden = 1024;
constexpr int kFfn = 768;
constexpr int kExperts = 32;
constexpr int kLayers = 2;
constexpr int kVocab = 8192;
constexpr int kHeadDim = 128;
constexpr int kHeads = 8;
constexpr int kKvHeads = 2;

// A qwen3_moe checkpoint of 340 MB in bf16. All weights are zero: the file is one large hole, which
// costs no time to write, but its pages count like any other's once they are read.
void WriteCheckpoint(const TempFolder& folder) {
  const nlohmann::json config = {{"model_type", "qwen3_moe"},
                                 {"hidden_act", "silu"},
                                 {"vocab_size", kVocab},
                                 {"hidden_size", kHidden},
                                 {"num_hidden_layers", kLayers},
                                 {"num_attention_heads", kHeads},
                                 {"num_key_value_heads", kKvHeads},
                                 {"head_dim", kHeadDim},
                                 {"num_experts", kExperts},
                                 {"num_experts_per_tok", 4},
                                 {"moe_intermediate_size", kFfn},
                                 {"norm_topk_prob", true},
                                 {"max_position_embeddings", 512},
                                 {"rms_norm_eps", 1e-6},
                                 {"rope_theta", 10000.0},
                                 {"tie_word_embeddings", false},
                                 {"attention_bias", false},
                                 {"eos_token_id", 2}};
  folder.Write("config.json", config.dump());
  nlohmann::json header;
  int64_t end = 0;
  const auto add = [&](const std::string& name, const std::vector<int>& shape) {
    int64_t bytes = 2;
    for (const int size : shape) bytes *= size;
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
  };
  add("lm_head.weight", {kVocab, kHidden});
  add("model.embed_tokens.weight", {kVocab, kHidden});
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {kHidden});
    for (int expert = 0; expert < kExperts; ++expert) {
      const std::string ffn = prefix + "mlp.experts." + std::to_string(expert) + ".";
      add(ffn + "down_proj.weight", {kHidden, kFfn});
      add(ffn + "gate_proj.weight", {kFfn, kHidden});
      add(ffn + "up_proj.weight", {kFfn, kHidden});
    }
    add(prefix + "mlp.gate.weight", {kExperts, kHidden});
    add(prefix + "post_attention_layernorm.weight", {kHidden});
    add(prefix + "self_attn.k_norm.weight", {kHeadDim});
    add(prefix + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kHidden});
    add(prefix + "self_attn.o_proj.weight", {kHidden, kHeads * kHeadDim});
    add(prefix + "self_attn.q_norm.weight", {kHeadDim});
    add(prefix + "self_attn.q_proj.weight", {kHeads * kHeadDim, kHidden});
    add(prefix + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kHidden});
  }
  add("model.norm.weight", {kHidden});
  const std::string head = Pack(header.dump(), "");
  folder.Write("model.safetensors", head);
  std::filesystem::resize_file(folder.path() + "/model.safetensors",
                               head.size() + static_cast<uintmax_t>(end));
}

// A line of /proc/self/status, in bytes.
int64_t MemoryStatus(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(key + ":", 0) == 0)
      return std::strtoll(line.c_str() + key.size() + 1, nullptr, 10) << 10;
  }
  ADD_FAILURE() << "/proc/self/status has no " << key;
  return 0;
}

// Exits with code 0 if loading kept within its bound. For a process of its own, as a peak cannot be
// taken back.
[[noreturn]] void LoadAndExit(const std::string& folder, kernels::WeightFormat format) {
  const auto checkpoint = Checkpoint::Open(folder);
  if (!checkpoint.ok()) {
    std::cerr << checkpoint.status() << "\n";
    std::exit(2);
  }
  const int64_t before = MemoryStatus("VmRSS");
  const auto runner = CpuModelRunner::Create(
      **checkpoint,
      {.weights = format, .num_threads = 2, .kv_cache_bytes = 1 << 20, .max_step_tokens = 8});
  if (!runner.ok()) {
    std::cerr << runner.status() << "\n";
    std::exit(2);
  }
  const int64_t growth = MemoryStatus("VmHWM") - before;
  const int64_t packed = Weights::PackedBytes(**checkpoint, format);
  const int64_t most =
      static_cast<int64_t>(kMostOfPacked * static_cast<double>(packed)) + kProcessBytes;
  std::cerr << "resident memory grew by " << growth << " bytes at most, weights are " << packed
            << ", the bound is " << most << "\n";
  // Less than the weights themselves would be a measurement that measures nothing.
  std::exit(growth >= packed && growth <= most ? 0 : 1);
}

class PeakMemoryTest : public ::testing::TestWithParam<kernels::WeightFormat> {};

TEST_P(PeakMemoryTest, LoadingKeepsNoMoreOfTheSourceThanItPacksJustNow) {
#ifdef SLUICE_SANITIZED
  GTEST_SKIP() << "a sanitizer's own memory counts as the process's";
#endif
  const TempFolder folder;
  WriteCheckpoint(folder);
  EXPECT_EXIT(LoadAndExit(folder.path(), GetParam()), ::testing::ExitedWithCode(0),
              "resident memory grew");
}

INSTANTIATE_TEST_SUITE_P(Formats, PeakMemoryTest,
                         ::testing::Values(kernels::WeightFormat::kInt8,
                                           kernels::WeightFormat::kInt4),
                         [](const auto& param) { return kernels::NameOf(param.param); });

}  // namespace
}  // namespace sluice::model
