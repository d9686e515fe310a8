#include "metrics/expert_text.h"

#include <gtest/gtest.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <cmath>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace sluice::metrics {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

ExpertLoad::Snapshot RandomSnapshot(int num_layers, int num_experts, std::mt19937_64& random) {
  std::uniform_int_distribution<int> exponent(-40, 49);
  const auto number = [&] {
    return std::ldexp(static_cast<double>(random() >> 11), exponent(random) - 53);
  };
  ExpertLoad::Snapshot snapshot;
  for (int i = 0; i < num_layers; ++i) {
    LayerLoad& layer = snapshot.layers.emplace_back();
    layer.layer = 3 * i + 1;
    for (int expert = 0; expert < num_experts; ++expert) {
      // From 0 to 2^53: a scrape is read as doubles.
      const auto bits = 11 + random() % 53;
      layer.tokens.push_back(static_cast<int64_t>(random() >> bits));
      layer.weight.push_back(expert % 7 == 0 ? 0 : number());
    }
    layer.seconds = number();
    layer.imbalance = number();
    layer.active_experts = number();
    layer.routing_entropy = number();
    layer.load_balance_loss = number();
  }
  return snapshot;
}

// The lines of one family, as the library writes them.
std::string Serialized(const ExpertLoad::Snapshot& snapshot, const std::string& name,
                       const std::string& help, MetricType type,
                       const std::vector<std::vector<double>>& values, bool per_expert) {
  MetricFamily family{.name = name, .help = help, .type = type};
  for (size_t i = 0; i < snapshot.layers.size(); ++i) {
    for (size_t expert = 0; expert < values[i].size(); ++expert) {
      prometheus::ClientMetric& metric = family.metric.emplace_back();
      metric.label = {{"layer", std::to_string(snapshot.layers[i].layer)}};
      if (per_expert) metric.label.push_back({"expert", std::to_string(expert)});
      (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = values[i][expert];
    }
  }
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, {family});
  return text.str();
}

// The help text of a family in a page.
std::string HelpOf(const std::string& text, const std::string& name) {
  const std::string head = "# HELP " + name + " ";
  const size_t begin = text.find(head) + head.size();
  return text.substr(begin, text.find('\n', begin) - begin);
}

TEST(ExpertTextTest, IsWhatTheLibrarysSerializerWrites) {
  const uint64_t seed = 4711;
  RecordProperty("seed", std::to_string(seed));
  std::mt19937_64 random(seed);
  for (const auto& [num_layers, num_experts] :
       {std::pair{1, 1}, std::pair{6, 8}, std::pair{3, 200}}) {
    SCOPED_TRACE(testing::Message() << num_layers << " x " << num_experts << ", seed " << seed);
    const ExpertLoad::Snapshot snapshot = RandomSnapshot(num_layers, num_experts, random);
    std::string text;
    AppendExperts(snapshot, true, text);

    std::string want;
    std::vector<std::vector<double>> tokens, weights;
    for (const LayerLoad& layer : snapshot.layers) {
      tokens.emplace_back(layer.tokens.begin(), layer.tokens.end());
      weights.push_back(layer.weight);
    }
    for (const auto& [name, values] : {std::pair{"sluice_expert_tokens_total", tokens},
                                       std::pair{"sluice_expert_weight_total", weights}}) {
      want += Serialized(snapshot, name, HelpOf(text, name), MetricType::Counter, values, true);
    }
    struct PerLayer {
      const char* name;
      double LayerLoad::*value;
      MetricType type;
    };
    for (const PerLayer& family :
         {PerLayer{"sluice_moe_imbalance", &LayerLoad::imbalance, MetricType::Gauge},
          PerLayer{"sluice_moe_active_experts", &LayerLoad::active_experts, MetricType::Gauge},
          PerLayer{"sluice_moe_routing_entropy", &LayerLoad::routing_entropy, MetricType::Gauge},
          PerLayer{"sluice_moe_load_balance_loss", &LayerLoad::load_balance_loss,
                   MetricType::Gauge},
          PerLayer{"sluice_moe_layer_seconds_total", &LayerLoad::seconds, MetricType::Counter}}) {
      std::vector<std::vector<double>> values;
      for (const LayerLoad& layer : snapshot.layers) values.push_back({layer.*family.value});
      want +=
          Serialized(snapshot, family.name, HelpOf(text, family.name), family.type, values, false);
    }
    EXPECT_EQ(text, want);
  }
}

TEST(ExpertTextTest, WhatIsNotFiniteIsWrittenAsPrometheusReadsIt) {
  ExpertLoad::Snapshot snapshot;
  LayerLoad& layer = snapshot.layers.emplace_back();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  layer.tokens = {1, 2, 3};
  layer.weight = {std::nan(""), kInfinity, -kInfinity};
  std::string text;
  AppendExperts(snapshot, true, text);
  for (const char* line : {"{layer=\"0\",expert=\"0\"} NaN\n", "{layer=\"0\",expert=\"1\"} +Inf\n",
                           "{layer=\"0\",expert=\"2\"} -Inf\n"}) {
    EXPECT_NE(text.find(std::string("sluice_expert_weight_total") + line), std::string::npos)
        << line;
  }
}

}  // namespace
}  // namespace sluice::metrics
