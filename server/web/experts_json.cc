#include "web/experts_json.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "metrics/number_text.h"

namespace sluice::web {
namespace {

// What a token count and a weight take, and more.
constexpr size_t kBytesPerExpert = 32;

void Append(int64_t value, std::string& json) { metrics::AppendInteger(value, json); }

// JSON has no word for what is not finite.
void Append(double value, std::string& json) {
  if (std::isfinite(value)) {
    metrics::AppendNumber(value, json);
  } else {
    json += "null";
  }
}

// A name may be anything, UTF-8 or not.
void Append(const std::string& text, std::string& json) {
  json += nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

template <typename T>
void Append(const std::vector<T>& values, std::string& json) {
  json += '[';
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) json += ',';
    Append(values[i], json);
  }
  json += ']';
}

// Builds `{"key":value,...}`; nested objects are closed by their own Close.
class ObjectWriter {
 public:
  explicit ObjectWriter(std::string& json) : json_(json) { json_ += '{'; }

  void Key(const char* key) {
    if (!is_first_) json_ += ',';
    is_first_ = false;
    json_ += '"';
    json_ += key;
    json_ += "\":";
  }
  template <typename T>
  void Field(const char* key, const T& value) {
    Key(key);
    Append(value, json_);
  }
  void Null(const char* key) {
    Key(key);
    json_ += "null";
  }
  void Close() { json_ += '}'; }

 private:
  std::string& json_;
  bool is_first_ = true;
};

void AppendModel(const metrics::ModelInfo& model, std::string& json) {
  ObjectWriter object(json);
  object.Field("name", model.name);
  object.Field("family", model.family);
  object.Field("weights", model.weights);
  object.Close();
}

void AppendHistogram(const metrics::HistogramCounts& histogram, std::string& json) {
  ObjectWriter object(json);
  object.Field("bounds_seconds", histogram.bounds);
  object.Field("counts", histogram.counts);
  object.Close();
}

void AppendEngine(const metrics::LiveFigures& figures, std::string& json) {
  ObjectWriter object(json);
  object.Field("requests_running", figures.requests_running);
  object.Field("requests_waiting", figures.requests_waiting);
  object.Field("prompt_tokens", figures.prompt_tokens);
  object.Field("prompt_tokens_cached", figures.prompt_tokens_cached);
  object.Field("generated_tokens", figures.generated_tokens);
  object.Field("kv_cache_usage_ratio", figures.kv_cache_usage_ratio);
  object.Field("kv_blocks_used", figures.kv_blocks_used);
  object.Field("kv_blocks_free", figures.kv_blocks_free);
  object.Field("kv_blocks_cached", figures.kv_blocks_cached);
  object.Key("time_to_first_token");
  AppendHistogram(figures.time_to_first_token_seconds, json);
  object.Key("inter_token_latency");
  AppendHistogram(figures.inter_token_latency_seconds, json);
  object.Close();
}

void AppendLayer(const metrics::LayerLoad& layer, std::string& json) {
  ObjectWriter object(json);
  object.Field("layer", int64_t{layer.layer});
  object.Field("imbalance", layer.imbalance);
  object.Field("active_experts", layer.active_experts);
  object.Field("routing_entropy", layer.routing_entropy);
  object.Field("load_balance_loss", layer.load_balance_loss);
  object.Field("seconds", layer.seconds);
  object.Field("tokens", layer.tokens);
  object.Field("weights", layer.weight);
  object.Close();
}

void AppendExperts(const metrics::ExpertLoad& load, std::string& json) {
  const metrics::ExpertLoad::Snapshot snapshot = load.Read();
  const auto num_experts = static_cast<size_t>(load.num_experts());
  json.reserve(json.size() + snapshot.layers.size() * (512 + num_experts * kBytesPerExpert));
  ObjectWriter object(json);
  object.Field("num_experts", int64_t{load.num_experts()});
  object.Field("experts_per_token", int64_t{load.top_k()});
  object.Field("steps", snapshot.steps);
  object.Field("window_steps",
               int64_t{snapshot.layers.empty() ? 0 : snapshot.layers[0].window_steps});
  object.Key("layers");
  json += '[';
  for (const metrics::LayerLoad& layer : snapshot.layers) {
    if (&layer != snapshot.layers.data()) json += ',';
    AppendLayer(layer, json);
  }
  json += ']';
  object.Close();
}

}  // namespace

std::string ExpertsJson(const metrics::ServerMetrics& metrics, absl::string_view state,
                        absl::Time start, absl::Duration uptime) {
  std::string json;
  ObjectWriter object(json);
  object.Field("version", metrics.version());
  object.Field("state", std::string(state));
  object.Field("start_time_seconds", absl::ToDoubleSeconds(start - absl::UnixEpoch()));
  object.Field("uptime_seconds", absl::ToDoubleSeconds(uptime));
  const std::optional<metrics::ModelInfo> model = metrics.model();
  if (model.has_value()) {
    object.Key("model");
    AppendModel(*model, json);
  } else {
    object.Null("model");
  }
  const std::optional<metrics::LiveFigures> figures = metrics.Figures();
  if (figures.has_value()) {
    object.Key("engine");
    AppendEngine(*figures, json);
  } else {
    object.Null("engine");
  }
  const metrics::ExpertLoad* const load = metrics.expert_load();
  if (load != nullptr) {
    object.Key("experts");
    AppendExperts(*load, json);
  } else {
    object.Null("experts");
  }
  object.Close();
  return json;
}

}  // namespace sluice::web
