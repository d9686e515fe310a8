#include "metrics/expert_collector.h"

#include <string>
#include <utility>

namespace sluice::metrics {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily PerExpert(const ExpertLoad::Snapshot& snapshot, const char* name, const char* help,
                       double (*value)(const LayerLoad&, size_t)) {
  MetricFamily family{.name = name, .help = help, .type = MetricType::Counter};
  for (const LayerLoad& layer : snapshot.layers) {
    const std::string layer_label = std::to_string(layer.layer);
    for (size_t expert = 0; expert < layer.tokens.size(); ++expert) {
      ClientMetric& metric = family.metric.emplace_back();
      metric.label = {{"layer", layer_label}, {"expert", std::to_string(expert)}};
      metric.counter.value = value(layer, expert);
    }
  }
  return family;
}

MetricFamily PerLayer(const ExpertLoad::Snapshot& snapshot, MetricType type, const char* name,
                      const char* help, double LayerLoad::*value) {
  MetricFamily family{.name = name, .help = help, .type = type};
  for (const LayerLoad& layer : snapshot.layers) {
    ClientMetric& metric = family.metric.emplace_back();
    metric.label = {{"layer", std::to_string(layer.layer)}};
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = layer.*value;
  }
  return family;
}

}  // namespace

std::vector<MetricFamily> CollectExperts(const ExpertLoad& load, bool per_expert) {
  const ExpertLoad::Snapshot snapshot = load.Read();
  std::vector<MetricFamily> families;
  if (per_expert) {
    families.push_back(PerExpert(snapshot, "sluice_expert_tokens_total",
                                 "Tokens routed to each expert of each layer.",
                                 [](const LayerLoad& layer, size_t expert) {
                                   return static_cast<double>(layer.tokens[expert]);
                                 }));
    families.push_back(
        PerExpert(snapshot, "sluice_expert_weight_total",
                  "Sum of the routing weights of the tokens routed to each expert of each layer.",
                  [](const LayerLoad& layer, size_t expert) { return layer.weight[expert]; }));
  }
  families.push_back(PerLayer(snapshot, MetricType::Gauge, "sluice_moe_imbalance",
                              "Tokens of a layer's most loaded expert over the mean of its "
                              "experts, over the last steps; 1 is perfect balance.",
                              &LayerLoad::imbalance));
  families.push_back(PerLayer(snapshot, MetricType::Gauge, "sluice_moe_active_experts",
                              "Distinct experts of a layer that a step uses, on average over the "
                              "last steps.",
                              &LayerLoad::active_experts));
  families.push_back(PerLayer(snapshot, MetricType::Gauge, "sluice_moe_routing_entropy",
                              "Entropy of a layer's load over its experts, divided by the largest "
                              "possible one, over the last steps; 1 is perfect balance.",
                              &LayerLoad::routing_entropy));
  families.push_back(PerLayer(snapshot, MetricType::Gauge, "sluice_moe_load_balance_loss",
                              "A layer's load-balance loss as in Switch Transformers, number of "
                              "experts times the sum over experts of load share times mean router "
                              "probability, over the last steps; 1 is perfect balance.",
                              &LayerLoad::load_balance_loss));
  families.push_back(PerLayer(snapshot, MetricType::Counter, "sluice_moe_layer_seconds_total",
                              "Time spent in a layer's router and experts.", &LayerLoad::seconds));
  return families;
}

}  // namespace sluice::metrics
