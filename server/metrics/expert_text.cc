#include "metrics/expert_text.h"

#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "metrics/number_text.h"

namespace sluice::metrics {
namespace {

// What a line of a family with a series for each expert takes, and more.
constexpr size_t kBytesPerExpert = 80;

// A broken model's weights may be anything.
void AppendValue(double value, std::string& text) {
  if (std::isnan(value)) {
    text += "NaN";
  } else if (std::isinf(value)) {
    text += value < 0 ? "-Inf" : "+Inf";
  } else {
    AppendNumber(value, text);
  }
}

void AppendValue(int64_t value, std::string& text) { AppendInteger(value, text); }

void AppendHead(const char* name, const char* type, const char* help, std::string& text) {
  absl::StrAppend(&text, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

template <typename T>
void AppendPerExpert(const ExpertLoad::Snapshot& snapshot, const char* name, const char* help,
                     std::vector<T> LayerLoad::*values, std::string& text) {
  AppendHead(name, "counter", help, text);
  for (const LayerLoad& layer : snapshot.layers) {
    const std::string line = absl::StrCat(name, "{layer=\"", layer.layer, "\",expert=\"");
    int64_t expert = 0;
    for (const T value : layer.*values) {
      text += line;
      AppendInteger(expert++, text);
      text += "\"} ";
      AppendValue(value, text);
      text += '\n';
    }
  }
}

void AppendPerLayer(const ExpertLoad::Snapshot& snapshot, const char* type, const char* name,
                    const char* help, double LayerLoad::*value, std::string& text) {
  AppendHead(name, type, help, text);
  for (const LayerLoad& layer : snapshot.layers) {
    absl::StrAppend(&text, name, "{layer=\"", layer.layer, "\"} ");
    AppendValue(layer.*value, text);
    text += '\n';
  }
}

}  // namespace

void AppendExperts(const ExpertLoad::Snapshot& snapshot, bool per_expert, std::string& text) {
  if (per_expert) {
    const size_t num_experts = snapshot.layers.empty() ? 0 : snapshot.layers[0].tokens.size();
    text.reserve(text.size() + 2 * snapshot.layers.size() * num_experts * kBytesPerExpert);
    AppendPerExpert(snapshot, "sluice_expert_tokens_total",
                    "Tokens routed to each expert of each layer.", &LayerLoad::tokens, text);
    AppendPerExpert(snapshot, "sluice_expert_weight_total",
                    "Sum of the routing weights of the tokens routed to each expert of each layer.",
                    &LayerLoad::weight, text);
  }
  AppendPerLayer(snapshot, "gauge", "sluice_moe_imbalance",
                 "Tokens of a layer's most loaded expert over the mean of its experts, over the "
                 "last steps; 1 is perfect balance.",
                 &LayerLoad::imbalance, text);
  AppendPerLayer(snapshot, "gauge", "sluice_moe_active_experts",
                 "Distinct experts of a layer that a step uses, on average over the last steps.",
                 &LayerLoad::active_experts, text);
  AppendPerLayer(snapshot, "gauge", "sluice_moe_routing_entropy",
                 "Entropy of a layer's load over its experts, divided by the largest possible one, "
                 "over the last steps; 1 is perfect balance.",
                 &LayerLoad::routing_entropy, text);
  AppendPerLayer(snapshot, "gauge", "sluice_moe_load_balance_loss",
                 "A layer's load-balance loss as in Switch Transformers, number of experts times "
                 "the sum over experts of load share times mean router probability, over the last "
                 "steps; 1 is perfect balance.",
                 &LayerLoad::load_balance_loss, text);
  AppendPerLayer(snapshot, "counter", "sluice_moe_layer_seconds_total",
                 "Time spent in a layer's router and experts.", &LayerLoad::seconds, text);
}

}  // namespace sluice::metrics
