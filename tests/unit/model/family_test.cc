#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "model/families/families.h"

namespace sluice::model {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<ModelConfig> Translate(const std::string& text) {
  const absl::StatusOr<Json> json = ParseJsonObject("config.json", text);
  if (!json.ok()) return json.status();
  const JsonObject object("config.json", *json);
  const auto family = FindFamily(object);
  if (!family.ok()) return family.status();
  return (*family)->translate(object);
}

// A config.json of `family` with these fields besides.
std::string Config(const std::string& family, const std::string& fields) {
  return R"({"model_type": ")" + family + "\"" + (fields.empty() ? "" : ", " + fields) + "}";
}

// Where the layers' windows are, and how long: "8 - 8 -".
std::string Windows(const ModelConfig& config) {
  std::string text;
  for (const LayerConfig& layer : config.layers) {
    text += (text.empty() ? "" : " ") +
            (layer.sliding_window ? std::to_string(*layer.sliding_window) : "-");
  }
  return text;
}

std::string SparseLayers(const ModelConfig& config) {
  std::string text;
  for (const LayerConfig& layer : config.layers) text += layer.sparse ? 'S' : 'd';
  return text;
}

TEST(FamilyTest, AbsentFieldsHaveTheFamilysDefaults) {
  struct Case {
    const char* family;
    int vocab, hidden, layers, heads, kv_heads, head_dim, experts, top_k, ffn, shared;
    int64_t context;
    float eps;
    double theta;
    bool renormalize, qkv_bias;
  };
  const Case kCases[] = {
      {"mixtral", 32000, 4096, 32, 32, 8, 128, 8, 2, 14336, 0, 131072, 1e-5f, 1e6, true, false},
      {"qwen3_moe", 151936, 2048, 24, 32, 4, 64, 128, 8, 768, 0, 32768, 1e-6f, 1e4, false, false},
      {"olmoe", 50304, 2048, 16, 16, 16, 128, 64, 8, 2048, 0, 4096, 1e-5f, 1e4, false, false},
      {"qwen2_moe", 151936, 2048, 24, 16, 16, 128, 60, 4, 1408, 5632, 32768, 1e-6f, 1e4, false,
       true},
  };
  for (const Case& want : kCases) {
    SCOPED_TRACE(want.family);
    const auto config = Translate(Config(want.family, ""));
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->family, want.family);
    EXPECT_EQ(config->vocab_size, want.vocab);
    EXPECT_EQ(config->hidden_size, want.hidden);
    EXPECT_EQ(config->num_layers(), want.layers);
    EXPECT_EQ(config->attention.num_heads, want.heads);
    EXPECT_EQ(config->attention.num_kv_heads, want.kv_heads);
    EXPECT_EQ(config->attention.head_dim, want.head_dim);
    EXPECT_EQ(config->attention.qkv_bias, want.qkv_bias);
    EXPECT_FALSE(config->attention.output_bias);
    EXPECT_EQ(config->router.num_experts, want.experts);
    EXPECT_EQ(config->router.top_k, want.top_k);
    EXPECT_EQ(config->router.renormalize, want.renormalize);
    EXPECT_EQ(config->expert_ffn_size, want.ffn);
    EXPECT_EQ(config->shared_ffn_size, want.shared);
    EXPECT_EQ(config->max_context, want.context);
    EXPECT_EQ(config->rms_norm_eps, want.eps);
    EXPECT_EQ(config->attention.rope.theta, want.theta);
    EXPECT_EQ(config->attention.rope.scaling, RopeConfig::Scaling::kNone);
    EXPECT_FALSE(config->tied_embeddings);
    EXPECT_EQ(SparseLayers(*config), std::string(want.layers, 'S'));
    EXPECT_EQ(config->layers[0].sliding_window, std::nullopt);
  }
}

TEST(FamilyTest, FieldsHaveTheirEffect) {
  struct Case {
    const char* family;
    const char* fields;
    std::function<bool(const ModelConfig&)> holds;
  };
  using C = const ModelConfig&;
  const Case kCases[] = {
      // Heads.
      {"olmoe", R"("num_key_value_heads": null)",
       [](C c) { return c.attention.num_kv_heads == 16; }},
      {"mixtral", R"("num_key_value_heads": null)",
       [](C c) { return c.attention.num_kv_heads == 32; }},
      {"mixtral", R"("num_key_value_heads": 1)", [](C c) { return c.attention.num_kv_heads == 1; }},
      {"mixtral", R"("num_attention_heads": 30, "num_key_value_heads": 10, "head_dim": 6)",
       [](C c) { return c.attention.num_kv_heads == 10 && c.attention.head_dim == 6; }},
      {"qwen3_moe", R"("head_dim": null)", [](C c) { return c.attention.head_dim == 64; }},
      {"qwen3_moe", R"("head_dim": 256)", [](C c) { return c.attention.head_dim == 256; }},
      // Biases.
      {"qwen3_moe", R"("attention_bias": true)",
       [](C c) { return c.attention.qkv_bias && c.attention.output_bias; }},
      {"olmoe", R"("attention_bias": true)",
       [](C c) { return c.attention.qkv_bias && c.attention.output_bias; }},
      {"qwen2_moe", R"("qkv_bias": false)", [](C c) { return !c.attention.qkv_bias; }},
      {"qwen2_moe", R"("qkv_bias": true)",
       [](C c) { return c.attention.qkv_bias && !c.attention.output_bias; }},
      {"olmoe", R"("clip_qkv": 8)", [](C c) { return c.attention.clip_qkv == 8.0f; }},
      {"olmoe", R"("clip_qkv": null)", [](C c) { return !c.attention.clip_qkv; }},
      // Experts, under both names.
      {"qwen3_moe", R"("num_local_experts": 7, "num_experts_per_tok": 7)",
       [](C c) { return c.router.num_experts == 7 && c.router.top_k == 7; }},
      {"mixtral", R"("num_experts": 300, "num_experts_per_tok": 1)",
       [](C c) { return c.router.num_experts == 300 && c.router.top_k == 1; }},
      {"olmoe", R"("num_experts": 9, "num_local_experts": 9)",
       [](C c) { return c.router.num_experts == 9; }},
      {"qwen3_moe", R"("norm_topk_prob": true)", [](C c) { return c.router.renormalize; }},
      {"qwen2_moe", R"("norm_topk_prob": true)", [](C c) { return c.router.renormalize; }},
      {"olmoe", R"("norm_topk_prob": true)", [](C c) { return c.router.renormalize; }},
      {"mixtral", R"("norm_topk_prob": false)", [](C c) { return c.router.renormalize; }},
      {"qwen2_moe", R"("shared_expert_intermediate_size": 0)",
       [](C c) { return c.shared_ffn_size == 0 && !c.shared_gate; }},
      {"qwen2_moe", R"("shared_expert_intermediate_size": 24)",
       [](C c) { return c.shared_ffn_size == 24 && c.shared_gate; }},
      // Dense layers.
      {"qwen3_moe", R"("num_hidden_layers": 6, "mlp_only_layers": [0, 3], "intermediate_size": 96)",
       [](C c) { return SparseLayers(c) == "dSSdSS" && c.dense_ffn_size == 96; }},
      {"qwen3_moe", R"("num_hidden_layers": 6, "decoder_sparse_step": 2)",
       [](C c) { return SparseLayers(c) == "dSdSdS" && c.dense_ffn_size == 6144; }},
      {"qwen2_moe", R"("num_hidden_layers": 6, "decoder_sparse_step": 3, "mlp_only_layers": [5])",
       [](C c) { return SparseLayers(c) == "ddSddd" && c.dense_ffn_size == 5632; }},
      {"qwen2_moe", R"("num_hidden_layers": 2, "mlp_only_layers": null)",
       [](C c) { return SparseLayers(c) == "SS" && c.dense_ffn_size == 0; }},
      // Sliding windows.
      {"mixtral", R"("num_hidden_layers": 3, "sliding_window": 16)",
       [](C c) { return Windows(c) == "16 16 16"; }},
      {"mixtral", R"("num_hidden_layers": 2, "sliding_window": null)",
       [](C c) { return Windows(c) == "- -"; }},
      {"qwen3_moe", R"("num_hidden_layers": 2, "sliding_window": 16)",
       [](C c) { return Windows(c) == "- -"; }},
      {"qwen3_moe",
       R"("num_hidden_layers": 3, "sliding_window": 16, "use_sliding_window": true,
          "max_window_layers": 1)",
       [](C c) { return Windows(c) == "16 16 16"; }},
      {"qwen3_moe", R"("num_hidden_layers": 2, "use_sliding_window": true)",
       [](C c) { return Windows(c) == "4096 4096"; }},
      {"qwen3_moe", R"("num_hidden_layers": 2, "use_sliding_window": true, "sliding_window": null)",
       [](C c) { return Windows(c) == "- -"; }},
      {"qwen2_moe", R"("num_hidden_layers": 4, "sliding_window": 16, "max_window_layers": 4)",
       [](C c) { return Windows(c) == "- - - -"; }},
      {"qwen2_moe",
       R"("num_hidden_layers": 6, "sliding_window": 16, "max_window_layers": 3,
          "use_sliding_window": true)",
       [](C c) { return Windows(c) == "16 - 16 - - -"; }},
      {"qwen2_moe", R"("num_hidden_layers": 3, "use_sliding_window": true)",
       [](C c) { return Windows(c) == "4096 - 4096"; }},
      {"qwen2_moe",
       R"("num_hidden_layers": 3, "sliding_window": 16, "use_sliding_window": true,
          "layer_types": ["full_attention", "sliding_attention", "sliding_attention"])",
       [](C c) { return Windows(c) == "- 16 16"; }},
      {"olmoe", R"("num_hidden_layers": 2, "sliding_window": 16)",
       [](C c) { return Windows(c) == "- -"; }},
      // The rest.
      {"mixtral", R"("tie_word_embeddings": true)", [](C c) { return c.tied_embeddings; }},
      {"mixtral", R"("rms_norm_eps": 1e-3)", [](C c) { return c.rms_norm_eps == 1e-3f; }},
      {"mixtral", R"("hidden_act": "swish")", [](C c) { return c.family == "mixtral"; }},
      {"mixtral",
       R"("torch_dtype": 3, "dtype": [], "rope_scaling": null, "quantization_config": null,
          "router_jitter_noise": "x", "partial_rotary_factor": 1.0, "attention_bias": false)",
       [](C c) { return c.family == "mixtral"; }},
  };
  for (const Case& test : kCases) {
    const auto config = Translate(Config(test.family, test.fields));
    ASSERT_TRUE(config.ok()) << test.fields << ": " << config.status();
    EXPECT_TRUE(test.holds(*config)) << test.family << ": " << test.fields;
  }
}

TEST(FamilyTest, ReadsEveryKindOfRope) {
  using Scaling = RopeConfig::Scaling;
  struct Case {
    const char* fields;
    Scaling scaling;
    double theta = 1e4;
    double factor = 1;
    int64_t original = 0;
    double attention_factor = 1;
    double beta_fast = 32;
    double beta_slow = 1;
    bool truncate = true;
  };
  const double magnitude4 = 0.1 * std::log(4.0) + 1;
  const Case kCases[] = {
      {R"("rope_theta": 5e5)", Scaling::kNone, 5e5},
      {R"("rope_theta": 500000)", Scaling::kNone, 5e5},
      {R"("rope_scaling": {})", Scaling::kNone},
      {R"("rope_scaling": {"rope_type": "default"})", Scaling::kNone},
      {R"("rope_parameters": {"rope_theta": 7.0})", Scaling::kNone, 7},
      {R"("rope_theta": 8.0, "rope_parameters": {"rope_type": "default", "rope_theta": 7.0})",
       Scaling::kNone, 7},
      {R"("rope_theta": 8.0, "rope_parameters": {"rope_type": "default"})", Scaling::kNone, 8},
      {R"("rope_scaling": {"type": "linear", "factor": 4})", Scaling::kLinear, 1e4, 4},
      {R"("rope_scaling": {"rope_type": null, "type": "linear", "factor": 4})", Scaling::kLinear,
       1e4, 4},
      {R"("rope_parameters": {"type": "yarn", "rope_type": "linear", "factor": 2.5})",
       Scaling::kLinear, 1e4, 2.5},
      {R"("rope_scaling": {"rope_type": "linear", "factor": 3},
          "rope_parameters": {"rope_type": "linear", "factor": 5})",
       Scaling::kLinear, 1e4, 3},
      {R"("rope_scaling": {"rope_type": "yarn", "factor": 4.0})", Scaling::kYarn, 1e4, 4, 4096,
       magnitude4},
      {R"("rope_scaling": {"type": "yarn", "factor": 4.0,
          "original_max_position_embeddings": 64})",
       Scaling::kYarn, 1e4, 4, 64, magnitude4},
      {R"("original_max_position_embeddings": 32, "rope_scaling": {"type": "yarn", "factor": 4.0,
          "original_max_position_embeddings": 64})",
       Scaling::kYarn, 1e4, 4, 32, magnitude4},
      {R"("rope_scaling": {"type": "yarn", "factor": null,
          "original_max_position_embeddings": 1024})",
       Scaling::kYarn, 1e4, 4, 1024, magnitude4},
      {R"("rope_scaling": {"type": "yarn", "factor": 0.5})", Scaling::kYarn, 1e4, 0.5, 4096, 1},
      {R"("rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": 1.5, "mscale": 2})",
       Scaling::kYarn, 1e4, 4, 4096, 1.5},
      {R"("rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 2, "mscale_all_dim": 0.5})",
       Scaling::kYarn, 1e4, 4, 4096, (0.2 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1)},
      {R"("rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 2, "mscale_all_dim": 0})",
       Scaling::kYarn, 1e4, 4, 4096, magnitude4},
      {R"("rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 2})", Scaling::kYarn, 1e4, 4,
       4096, magnitude4},
      {R"("rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 16, "beta_slow": 2,
          "truncate": false})",
       Scaling::kYarn, 1e4, 4, 4096, magnitude4, 16, 2, false},
      {R"("rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 0, "beta_slow": null})",
       Scaling::kYarn, 1e4, 4, 4096, magnitude4},
      {R"("rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 512})",
       Scaling::kLlama3, 1e4, 8, 512},
      {R"("rope_parameters": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "rope_theta": 1e6})",
       Scaling::kLlama3, 1e6, 8, 4096},
  };
  for (const Case& want : kCases) {
    SCOPED_TRACE(want.fields);
    const auto config = Translate(Config("olmoe", want.fields));
    ASSERT_TRUE(config.ok()) << config.status();
    const RopeConfig& rope = config->attention.rope;
    EXPECT_EQ(rope.scaling, want.scaling);
    EXPECT_EQ(rope.theta, want.theta);
    EXPECT_EQ(rope.factor, want.factor);
    EXPECT_EQ(rope.original_max_positions, want.original);
    EXPECT_DOUBLE_EQ(rope.attention_factor, want.attention_factor);
    EXPECT_EQ(rope.beta_fast, want.beta_fast);
    EXPECT_EQ(rope.beta_slow, want.beta_slow);
    EXPECT_EQ(rope.truncate, want.truncate);
  }
}

TEST(FamilyTest, YarnStretchesTheContextIfTheOriginalIsStated) {
  const struct {
    const char* scaling;
    int64_t max_context;
  } cases[] = {
      {R"({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048})", 8192},
      {R"({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512})", 4096},
      {R"({"type": "yarn", "factor": 4.0})", 4096},
      {R"({"type": "linear", "factor": 4.0})", 4096},
  };
  for (const auto& c : cases) {
    const auto config = Translate(Config("olmoe", std::string(R"("rope_scaling": )") + c.scaling));
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->max_context, c.max_context) << c.scaling;
  }
}

TEST(FamilyTest, Llama3ScalingMayHaveEqualFrequencyFactors) {
  const auto config = Translate(Config("mixtral", R"("rope_scaling": {"rope_type": "llama3",
      "factor": 8, "low_freq_factor": 2.0, "high_freq_factor": 2.0})"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->attention.rope.low_freq_factor, 2.0);
  EXPECT_EQ(config->attention.rope.high_freq_factor, 2.0);
}

TEST(FamilyTest, RefusesByNameWhatItDoesNotSupport) {
  struct Case {
    const char* family;
    const char* fields;
    const char* message;
  };
  const Case kCases[] = {
      {"gpt2", "", R"(model_type is "gpt2", supported are: mixtral, qwen3_moe, olmoe, qwen2_moe)"},
      {"mixtral", R"("hidden_act": "gelu")", R"(hidden_act is "gelu", which is not supported)"},
      {"mixtral", R"("quantization_config": {"bits": 4})", "quantization_config is an object"},
      {"olmoe", R"("compression_config": {})", "compression_config is an object"},
      {"qwen3_moe", R"("dual_chunk_attention_config": {})", "dual_chunk_attention_config is"},
      {"mixtral", R"("attention_bias": true)", "attention_bias is true, which is not supported"},
      {"qwen2_moe", R"("attention_bias": true)", "attention_bias is true"},
      {"olmoe", R"("mlp_bias": true)", "mlp_bias is true"},
      {"mixtral", R"("partial_rotary_factor": 0.5)", "partial_rotary_factor is 0.5"},
      {"mixtral", R"("rope_parameters": {"partial_rotary_factor": 0.5})",
       "rope_parameters.partial_rotary_factor is 0.5"},
      {"mixtral", R"("rope_scaling": {"type": "dynamic", "factor": 2})",
       R"(rope_scaling.type is "dynamic", which is not supported)"},
      {"mixtral", R"("rope_scaling": {"rope_type": "longrope"})",
       R"(rope_scaling.rope_type is "longrope")"},
      {"qwen2_moe", R"("rope_parameters": {"full_attention": {"rope_type": "default"}})",
       "rope_parameters.full_attention is an object"},
      {"qwen2_moe", R"("num_hidden_layers": 1, "layer_types": ["chunked_attention"])",
       R"(layer_types has "chunked_attention")"},
  };
  for (const Case& test : kCases) {
    const auto config = Translate(Config(test.family, test.fields));
    EXPECT_EQ(config.status().code(), absl::StatusCode::kUnimplemented) << test.fields;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr("config.json: "));
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(test.message));
  }
}

// Each of these fields with each value that no such field can have: an error that names the field.
TEST(FamilyTest, RefusesNonsenseInEveryField) {
  const std::vector<std::string> kNotACount = {"0",
                                               "-1",
                                               "1.5",
                                               "\"8\"",
                                               "true",
                                               "[]",
                                               "{}",
                                               "1e9",
                                               "null",
                                               "99999999999",
                                               "18446744073709551615"};
  const std::vector<std::string> kNotANumber = {"-1", "\"1\"", "true", "[]", "{}", "1e300"};
  const std::vector<std::string> kNotABool = {"0", "1", "\"true\"", "[]", "null"};
  struct Case {
    const char* family;
    const char* field;
    std::vector<std::string> values;
    const char* others = "\"num_hidden_layers\": 2";
  };
  const auto with = [](std::vector<std::string> values, const std::string& more) {
    values.push_back(more);
    return values;
  };
  auto optional_count = kNotACount;
  optional_count.erase(std::find(optional_count.begin(), optional_count.end(), "null"));
  const Case kCases[] = {
      {"mixtral", "vocab_size", with(kNotACount, "16777217")},
      {"mixtral", "hidden_size", with(kNotACount, "1048577")},
      {"mixtral", "num_hidden_layers", with(kNotACount, "4097"), "\"hidden_act\": \"silu\""},
      {"mixtral", "num_attention_heads", with(kNotACount, "4097")},
      {"mixtral", "num_key_value_heads", with(optional_count, "5")},
      {"mixtral", "head_dim", with(optional_count, "31")},
      {"mixtral", "num_local_experts", with(optional_count, "65537")},
      {"qwen3_moe", "num_experts", with(optional_count, "65537")},
      {"mixtral", "num_experts_per_tok", with(kNotACount, "9")},
      {"mixtral", "intermediate_size", kNotACount},
      {"mixtral", "sliding_window", optional_count},
      {"mixtral", "max_position_embeddings", kNotACount},
      {"mixtral", "rms_norm_eps", with(kNotANumber, "0")},
      {"mixtral", "rope_theta", with(kNotANumber, "1")},
      {"mixtral", "tie_word_embeddings", kNotABool},
      {"mixtral", "hidden_act", {"3", "true", "[]"}},
      {"mixtral", "rope_scaling", {"3", "\"yarn\"", "[]"}},
      {"mixtral", "rope_parameters", {"3", "\"yarn\"", "[]"}},
      {"qwen3_moe", "moe_intermediate_size", kNotACount},
      {"qwen3_moe", "norm_topk_prob", kNotABool},
      {"qwen3_moe", "attention_bias", kNotABool},
      {"qwen3_moe", "use_sliding_window", kNotABool},
      {"qwen3_moe", "sliding_window", optional_count, "\"use_sliding_window\": true"},
      {"qwen3_moe", "decoder_sparse_step", {"0", "-1", "1.5", "null", "\"1\""}},
      {"qwen3_moe",
       "mlp_only_layers",
       {"[24]", "[-1]", "[0.5]", "[\"0\"]", "[null]", "3", "{}"},
       "\"num_hidden_layers\": 24"},
      {"qwen3_moe", "intermediate_size", kNotACount, "\"decoder_sparse_step\": 2"},
      {"olmoe", "clip_qkv", with(kNotANumber, "0")},
      {"qwen2_moe", "qkv_bias", kNotABool},
      {"qwen2_moe", "shared_expert_intermediate_size", {"-1", "1048577", "null", "\"4\""}},
      {"qwen2_moe", "layer_types", {"3", "[]", "[1, 2]", "[\"full_attention\"]"}},
      {"qwen2_moe", "use_sliding_window", kNotABool},
      {"qwen2_moe", "sliding_window", kNotACount, "\"use_sliding_window\": true"},
      {"qwen2_moe", "max_window_layers", {"-1", "null", "2.5"}, "\"use_sliding_window\": true"},
  };
  for (const Case& test : kCases) {
    for (const std::string& value : test.values) {
      const std::string fields =
          std::string("\"") + test.field + "\": " + value + ", " + test.others;
      const auto config = Translate(Config(test.family, fields));
      EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << fields;
      EXPECT_THAT(std::string(config.status().message()),
                  HasSubstr(std::string("config.json: ") +
                            (value[0] == '[' && value.size() > 2 && test.values[0] == "[24]"
                                 ? "an entry of "
                                 : "") +
                            test.field))
          << fields;
    }
  }
}

TEST(FamilyTest, RefusesFieldsThatContradictEachOther) {
  struct Case {
    const char* family;
    const char* fields;
    const char* message;
  };
  const Case kCases[] = {
      {"mixtral", R"("num_experts": 4, "num_local_experts": 8)",
       "num_local_experts is 8, must be the same as num_experts, 4"},
      {"mixtral", R"("num_attention_heads": 12)",
       "num_key_value_heads is missing, must be a divisor of num_attention_heads, 12, unlike its "
       "default 8"},
      {"mixtral", R"("num_attention_heads": 12, "num_key_value_heads": 5)",
       "num_key_value_heads is 5, must be a divisor of num_attention_heads, 12"},
      {"mixtral", R"("hidden_size": 100, "num_attention_heads": 16)",
       "head_dim is missing, must be given: hidden_size / num_attention_heads is 100 / 16"},
      {"mixtral", R"("hidden_size": 1048576, "num_attention_heads": 1, "num_key_value_heads": 1)",
       "head_dim is missing"},
      {"mixtral", R"("hidden_size": 24, "num_attention_heads": 8)", "must be even, not 3"},
      {"mixtral", R"("num_local_experts": 1)",
       "num_experts_per_tok is missing, must be at most the number of experts, 1, unlike its "
       "default 2"},
      {"qwen2_moe", R"("num_hidden_layers": 1, "layer_types": ["sliding_attention"])",
       "use_sliding_window is missing, must be true"},
      {"qwen2_moe", R"("num_hidden_layers": 2, "use_sliding_window": true, "sliding_window": null)",
       "sliding_window is null"},
      {"mixtral", R"("rope_scaling": {"type": "linear"})", "rope_scaling.factor is missing"},
      {"mixtral", R"("rope_scaling": {"type": "linear", "factor": 0})", "rope_scaling.factor is 0"},
      {"mixtral", R"("rope_scaling": {"type": "linear", "factor": "2"})", "rope_scaling.factor is"},
      {"mixtral", R"("rope_scaling": {"type": 3})", "rope_scaling.type is 3"},
      {"mixtral", R"("rope_scaling": {"type": "llama3", "factor": 2})",
       "rope_scaling.low_freq_factor is missing"},
      {"mixtral",
       R"("rope_scaling": {"type": "llama3", "factor": 2, "low_freq_factor": 4,
          "high_freq_factor": 1})",
       "rope_scaling.high_freq_factor is 1, must be at least low_freq_factor, 4"},
      {"mixtral",
       R"("rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 0})",
       "rope_scaling.original_max_position_embeddings is 0"},
      {"mixtral",
       R"("rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2})",
       "rope_scaling.beta_fast is 1, must be at least beta_slow, 2"},
      {"mixtral", R"("rope_scaling": {"type": "yarn", "factor": 2, "mscale": -1})",
       "rope_scaling.mscale is -1"},
      {"mixtral", R"("rope_scaling": {"type": "yarn", "factor": 2, "attention_factor": 0})",
       "rope_scaling.attention_factor is 0"},
      {"mixtral", R"("rope_scaling": {"type": "yarn", "factor": 2, "truncate": 0})",
       "rope_scaling.truncate is 0"},
      {"mixtral", R"("rope_scaling": {"type": "yarn", "factor": 2, "rope_theta": 1})",
       "rope_scaling.rope_theta is 1"},
  };
  for (const Case& test : kCases) {
    const auto config = Translate(Config(test.family, test.fields));
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << test.fields;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr("config.json: "));
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(test.message));
  }
}

// A family's Bind against a finder that has exactly what it should have: dense layers, biases and
// the shared expert, which no golden checkpoint combines.
TEST(FamilyTest, BindsDenseLayersBiasesAndTheSharedExpert) {
  const auto config = Translate(Config("qwen2_moe", R"("hidden_size": 4, "vocab_size": 3,
      "num_hidden_layers": 2, "mlp_only_layers": [0], "num_attention_heads": 2,
      "num_key_value_heads": 1, "num_experts": 1, "num_experts_per_tok": 1,
      "moe_intermediate_size": 2, "shared_expert_intermediate_size": 5, "intermediate_size": 6)"));
  ASSERT_TRUE(config.ok()) << config.status();
  const std::vector<float> data(6 * 4, 1.0f);
  std::vector<TensorEntry> entries;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    entries.push_back({name,
                       "F32",
                       std::move(shape),
                       {reinterpret_cast<const std::byte*>(data.data()), data.size() * 4}});
  };
  add("model.embed_tokens.weight", {3, 4});
  add("lm_head.weight", {3, 4});
  add("model.norm.weight", {4});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    add(layer + "input_layernorm.weight", {4});
    add(layer + "post_attention_layernorm.weight", {4});
    add(layer + "self_attn.q_proj.weight", {4, 4});
    add(layer + "self_attn.q_proj.bias", {4});
    for (const char* matrix : {"k", "v"}) {
      add(layer + "self_attn." + matrix + "_proj.weight", {2, 4});
      add(layer + "self_attn." + matrix + "_proj.bias", {2});
    }
    add(layer + "self_attn.o_proj.weight", {4, 4});
  }
  const auto add_ffn = [&](const std::string& prefix, int width) {
    add(prefix + "gate_proj.weight", {width, 4});
    add(prefix + "up_proj.weight", {width, 4});
    add(prefix + "down_proj.weight", {4, width});
  };
  add_ffn("model.layers.0.mlp.", 6);
  add("model.layers.1.mlp.gate.weight", {1, 4});
  add_ffn("model.layers.1.mlp.experts.0.", 2);
  add_ffn("model.layers.1.mlp.shared_expert.", 5);
  add("model.layers.1.mlp.shared_expert_gate.weight", {1, 4});

  TensorFinder finder("file");
  ASSERT_TRUE(finder.Add("file", entries).ok());
  const auto tensors = kQwen2Moe.bind(finder, *config);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  const LayerTensors& dense = tensors->layers[0];
  const LayerTensors& sparse = tensors->layers[1];
  EXPECT_EQ(dense.dense->gate.rows, 6);
  EXPECT_FALSE(dense.router || dense.shared || dense.shared_gate || !dense.experts.empty());
  EXPECT_FALSE(sparse.dense || sparse.o_bias || sparse.q_norm);
  EXPECT_EQ(sparse.experts.size(), 1);
  EXPECT_EQ(sparse.shared->down.cols, 5);
  EXPECT_TRUE(sparse.router && sparse.shared_gate);
  EXPECT_EQ(sparse.q_bias->cols, 4);
  EXPECT_EQ(sparse.v_bias->cols, 2);

  // Every one of them is needed.
  for (size_t i = 0; i < entries.size(); ++i) {
    std::vector<TensorEntry> fewer = entries;
    const std::string name = fewer[i].name;
    fewer.erase(fewer.begin() + i);
    TensorFinder without("file");
    ASSERT_TRUE(without.Add("file", fewer).ok());
    const absl::Status status = kQwen2Moe.bind(without, *config).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(status.message(), "file: tensor \"" + name + "\" is missing");
  }
}

}  // namespace
}  // namespace sluice::model
