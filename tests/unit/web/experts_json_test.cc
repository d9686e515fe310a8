#include "web/experts_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

namespace sluice::web {
namespace {

using metrics::EngineMetrics;
using metrics::ExpertLoad;
using metrics::ExpertMetrics;
using metrics::ServerMetrics;
using nlohmann::json;

const absl::Time kStart = absl::FromUnixMillis(1'700'000'000'250);

json Parsed(const ServerMetrics& metrics) {
  const std::string text = ExpertsJson(metrics, "ready", kStart, absl::Milliseconds(1500));
  json parsed = json::parse(text, nullptr, false);
  EXPECT_FALSE(parsed.is_discarded()) << text;
  return parsed;
}

TEST(ExpertsJsonTest, SaysWhatIsKnownBeforeTheModelIsLoaded) {
  const ServerMetrics metrics({.version = "1.2.3"});
  EXPECT_EQ(json::parse(ExpertsJson(metrics, "loading", kStart, absl::Seconds(2))), json::parse(R"({
    "version": "1.2.3", "state": "loading", "start_time_seconds": 1700000000.25,
    "uptime_seconds": 2.0, "model": null, "engine": null, "experts": null})"));
}

TEST(ExpertsJsonTest, HasEveryFigure) {
  ServerMetrics metrics({.version = "1.2.3"});
  ExpertLoad& load = metrics.AddExpertLoad({1, 3}, 2, 1, ExpertMetrics::kOff);
  EngineMetrics engine = metrics.Engine(load);
  metrics.SetModel({.name = "demo", .family = "mixtral", .weights = "bf16"});
  engine.requests_running.Set(1);
  engine.requests_waiting.Set(2);
  engine.prompt_tokens_total.Increment(30);
  engine.prompt_tokens_cached_total.Increment(4);
  engine.generation_tokens_total.Increment(5);
  engine.kv_cache_usage_ratio.Set(0.25);
  engine.kv_blocks_used.Set(6);
  engine.kv_blocks_free.Set(7);
  engine.kv_blocks_cached.Set(8);
  engine.time_to_first_token_seconds.Observe(0.02);
  engine.inter_token_latency_seconds.Observe(100);
  const std::vector<int32_t> tokens = {3, 1, 0, 4};
  const std::vector<float> weights = {3, 1, 0, 4};
  const std::vector<double> seconds = {0.125, 0.25};
  load.Publish({4, tokens, weights, weights, seconds});

  json parsed = Parsed(metrics);
  const json first = parsed["engine"]["time_to_first_token"];
  EXPECT_EQ(first["counts"].size(), first["bounds_seconds"].size() + 1);
  const auto counts = first["counts"].get<std::vector<int>>();
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0), 1);
  EXPECT_EQ(parsed["engine"]["inter_token_latency"]["counts"].back(), 1);
  parsed["engine"].erase("time_to_first_token");
  parsed["engine"].erase("inter_token_latency");
  EXPECT_EQ(parsed, json::parse(R"({
    "version": "1.2.3", "state": "ready", "start_time_seconds": 1700000000.25,
    "uptime_seconds": 1.5,
    "model": {"name": "demo", "family": "mixtral", "weights": "bf16"},
    "engine": {"requests_running": 1, "requests_waiting": 2, "prompt_tokens": 30,
               "prompt_tokens_cached": 4, "generated_tokens": 5, "kv_cache_usage_ratio": 0.25,
               "kv_blocks_used": 6, "kv_blocks_free": 7, "kv_blocks_cached": 8},
    "experts": {"num_experts": 2, "experts_per_token": 1, "steps": 1, "window_steps": 1, "layers": [
      {"layer": 1, "imbalance": 1.5, "active_experts": 2, "routing_entropy": 0.8112781244591328,
       "load_balance_loss": 1.25, "seconds": 0.125, "tokens": [3, 1], "weights": [3, 1]},
      {"layer": 3, "imbalance": 2, "active_experts": 1, "routing_entropy": 0,
       "load_balance_loss": 2, "seconds": 0.25, "tokens": [0, 4], "weights": [0, 4]}]}})"));
}

TEST(ExpertsJsonTest, CountsAreExactWhateverTheirSize) {
  ServerMetrics metrics({});
  ExpertLoad& load = metrics.AddExpertLoad({0}, 2, 1, ExpertMetrics::kOff);
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  const std::vector<int32_t> tokens = {kMost, 1};
  const std::vector<float> floats = {1, 1};
  const double seconds = 0;
  for (int i = 0; i < 1001; ++i) {
    load.Publish({1, tokens, floats, floats, absl::MakeConstSpan(&seconds, 1)});
  }
  const json layer = Parsed(metrics)["experts"]["layers"][0];
  EXPECT_EQ(layer["tokens"], json({int64_t{1001} * kMost, 1001}));
  EXPECT_TRUE(layer["tokens"][0].is_number_integer());
}

TEST(ExpertsJsonTest, AnyNameAndAnyWeightMakeValidJson) {
  ServerMetrics metrics({.version = "\x01"});
  ExpertLoad& load = metrics.AddExpertLoad({0}, 3, 1, ExpertMetrics::kOff);
  metrics.SetModel({.name = "</script>\"\\\n\xff\xfe 熊", .family = "", .weights = "'"});
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<int32_t> tokens = {1, 1, 1};
  const std::vector<float> weights = {std::nanf(""), kInfinity, -1};
  const double seconds = std::nan("");
  load.Publish({3, tokens, weights, weights, absl::MakeConstSpan(&seconds, 1)});
  const json parsed = Parsed(metrics);
  EXPECT_EQ(parsed["model"]["name"], "</script>\"\\\n\xef\xbf\xbd\xef\xbf\xbd 熊");
  EXPECT_EQ(parsed["experts"]["layers"][0]["weights"], json({nullptr, nullptr, -1}));
  EXPECT_EQ(parsed["experts"]["layers"][0]["seconds"], nullptr);
}

TEST(ExpertsJsonTest, IsNoLargerThanItSays) {
  constexpr int kLayers = 61, kExperts = 256;
  ServerMetrics metrics({});
  std::vector<int> layers(kLayers);
  std::iota(layers.begin(), layers.end(), 0);
  ExpertLoad& load = metrics.AddExpertLoad(layers, kExperts, 8, ExpertMetrics::kPerExpert);
  metrics.Engine(load);
  metrics.SetModel({.name = std::string(256, 'n'), .family = "deepseek_v3", .weights = "int4"});
  // As many digits as there can be.
  const std::vector<int32_t> tokens(kLayers * kExperts, std::numeric_limits<int32_t>::max());
  const std::vector<float> weights(kLayers * kExperts, -1.2345678e-30f);
  const std::vector<double> seconds(kLayers, 1.0 / 3);
  for (int i = 0; i < 3; ++i) load.Publish({1 << 20, tokens, weights, weights, seconds});
  const std::string text = ExpertsJson(metrics, "draining", kStart, absl::Seconds(1) / 3);
  EXPECT_LE(text.size(), size_t{50} * kLayers * kExperts + 8192);
  EXPECT_GE(text.size(), size_t{20} * kLayers * kExperts);
}

}  // namespace
}  // namespace sluice::web
