#include "metrics/server_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <iterator>
#include <limits>
#include <sstream>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/mutex.h"
#include "metrics/expert_text.h"
#include "metrics/process_collector.h"

namespace sluice::metrics {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Labels;
using prometheus::MetricFamily;
using prometheus::Registry;
using Buckets = std::vector<double>;

// In the order of the enum.
constexpr std::array<const char*, kNumRejectionReasons> kRejectionReasonNames = {
    "queue_full", "queue_tokens", "deadline",     "too_many_calls",  "loading",
    "draining",   "invalid",      "duplicate_id", "unauthenticated", "token_limit"};

// What a request waits for, in seconds: 1 ms to 10 minutes.
Buckets RequestSeconds() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
          1,     2.5,    5,     10,   30,    60,   120, 300,  600};
}

// One step or one token, in seconds: 0.1 ms to 30 s.
Buckets StepSeconds() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
          0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30};
}

// 1, 2, 4, ..., `most`.
Buckets PowersOfTwo(double most) {
  Buckets buckets;
  for (double bound = 1; bound <= most; bound *= 2) buckets.push_back(bound);
  return buckets;
}

Counter& AddCounter(Registry& registry, const char* name, const char* help,
                    const Labels& labels = {}) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
}

Gauge& AddGauge(Registry& registry, const char* name, const char* help, const Labels& labels = {}) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
}

// Stands beside the library's registry, whose histograms lock those who observe while they are
// read. Thread-safe; references live as long as it does.
class HistogramRegistry {
 public:
  // The one of this name, made if there is none.
  Histogram& Add(const char* name, const char* help, const Buckets& buckets) {
    base::MutexLock lock(mutex_);
    for (const auto& family : families_) {
      if (family->name == name) return family->histogram;
    }
    families_.emplace_back(new Family{name, help, Histogram(buckets)});
    return families_.back()->histogram;
  }

  // Appends what a scrape says of all of them, in the order in which they were added.
  void Collect(std::vector<MetricFamily>& families) const {
    base::MutexLock lock(mutex_);
    for (const auto& family : families_) families.push_back(Collected(*family));
  }

 private:
  struct Family {
    const std::string name;
    const std::string help;
    Histogram histogram;
  };

  // Prometheus's buckets are cumulative; the last has no bound.
  static MetricFamily Collected(const Family& family) {
    const HistogramCounts read = family.histogram.Read();
    MetricFamily collected{
        .name = family.name, .help = family.help, .type = prometheus::MetricType::Histogram};
    prometheus::ClientMetric::Histogram& histogram = collected.metric.emplace_back().histogram;
    uint64_t count = 0;
    for (size_t i = 0; i < read.counts.size(); ++i) {
      count += static_cast<uint64_t>(read.counts[i]);
      const double bound =
          i < read.bounds.size() ? read.bounds[i] : std::numeric_limits<double>::infinity();
      histogram.bucket.push_back({.cumulative_count = count, .upper_bound = bound});
    }
    histogram.sample_count = count;
    histogram.sample_sum = read.sum;
    return collected;
  }

  mutable base::Mutex mutex_;
  std::vector<std::unique_ptr<Family>> families_ ABSL_GUARDED_BY(mutex_);
};

// One counter per label value, all there from the start, so that the first event already shows in a
// rate().
template <size_t N>
std::array<Counter*, N> AddCounters(Registry& registry, const char* name, const char* help,
                                    const std::array<const char*, N>& reasons) {
  std::array<Counter*, N> counters;
  for (size_t i = 0; i < N; ++i) {
    counters[i] = &AddCounter(registry, name, help, {{"reason", reasons[i]}});
  }
  return counters;
}

RequestMetrics MakeRequestMetrics(Registry& registry, HistogramRegistry& histograms) {
  RequestMetrics metrics{
      .request_latency_seconds = histograms.Add(
          "sluice_request_latency_seconds",
          "From the arrival of a request to the end of its answer.", RequestSeconds()),
      .request_prompt_tokens =
          histograms.Add("sluice_request_prompt_tokens",
                         "Prompt length of finished requests, in tokens.", PowersOfTwo(131072)),
      .request_generation_tokens =
          histograms.Add("sluice_request_generation_tokens",
                         "Answer length of finished requests, in tokens.", PowersOfTwo(131072)),
      .access_log_dropped_lines_total =
          AddCounter(registry, "sluice_access_log_dropped_lines_total",
                     "Lines of the access log that could not be written."),
      .requests_by_method = {},
      .finished_by_reason =
          AddCounters(registry, "sluice_requests_finished_total",
                      "Admitted requests that ended, by how they ended.", kFinishReasonNames),
      .rejections_by_reason =
          AddCounters(registry, "sluice_admission_rejections_total",
                      "Requests that were not admitted, by why.", kRejectionReasonNames)};
  for (size_t method = 0; method < kNumMethods; ++method) {
    for (size_t code = 0; code < kNumCodes; ++code) {
      metrics.requests_by_method[method][code] = &AddCounter(
          registry, "sluice_requests_total", "Calls that ended, by method and gRPC status code.",
          {{"method", kMethodNames[method]},
           {"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}});
    }
  }
  return metrics;
}

EngineMetrics MakeEngineMetrics(Registry& registry, HistogramRegistry& histograms,
                                const RequestMetrics& requests, ExpertLoad& expert_load) {
  constexpr const char* kKvBlocksHelp = "Blocks of KV cache, by state.";
  return {
      .requests_running = AddGauge(registry, "sluice_requests_running",
                                   "Requests whose tokens are being computed."),
      .requests_waiting =
          AddGauge(registry, "sluice_requests_waiting", "Requests that wait for admission."),
      .prompt_tokens_total = AddCounter(registry, "sluice_prompt_tokens_total",
                                        "Prompt tokens computed or, if they were cached, found."),
      .prompt_tokens_cached_total =
          AddCounter(registry, "sluice_prompt_tokens_cached_total",
                     "Prompt tokens that were found in the KV cache instead of computed."),
      .prefix_cache_queries_total =
          AddCounter(registry, "sluice_prefix_cache_queries_total",
                     "Prompt tokens that were looked up in the prefix cache."),
      .prefix_cache_hits_total = AddCounter(registry, "sluice_prefix_cache_hits_total",
                                            "Prompt tokens that were found in the prefix cache."),
      .generation_tokens_total =
          AddCounter(registry, "sluice_generation_tokens_total", "Tokens generated."),
      .preemptions_total =
          AddCounter(registry, "sluice_preemptions_total",
                     "Sequences that gave up their blocks, to be computed anew later."),
      .rejections_queue_full = requests.admission_rejections_total(RejectionReason::kQueueFull),
      .rejections_queue_tokens = requests.admission_rejections_total(RejectionReason::kQueueTokens),
      .rejections_deadline = requests.admission_rejections_total(RejectionReason::kDeadline),
      .step_seconds = histograms.Add("sluice_step_seconds", "Time of one step.", StepSeconds()),
      .step_tokens =
          histograms.Add("sluice_step_tokens", "Tokens that a step computes.", PowersOfTwo(8192)),
      .step_sequences = histograms.Add("sluice_step_sequences", "Sequences that a step serves.",
                                       PowersOfTwo(1024)),
      .step_prompt_budget_tokens =
          AddGauge(registry, "sluice_step_prompt_budget_tokens",
                   "Prompt tokens that a step may have: fewer while others generate, so that "
                   "they are not held up."),
      .queue_time_seconds =
          histograms.Add("sluice_queue_time_seconds",
                         "From the arrival of a request to its admission.", RequestSeconds()),
      .prefill_time_seconds =
          histograms.Add("sluice_prefill_time_seconds",
                         "From the admission of a request to its first token.", RequestSeconds()),
      .decode_time_seconds =
          histograms.Add("sluice_decode_time_seconds",
                         "From the first token of a request to its last.", RequestSeconds()),
      .time_to_first_token_seconds =
          histograms.Add("sluice_time_to_first_token_seconds",
                         "From the arrival of a request to its first token.", RequestSeconds()),
      .inter_token_latency_seconds = histograms.Add(
          "sluice_inter_token_latency_seconds",
          "Between two tokens of an answer, one observation per token.", StepSeconds()),
      .request_time_per_output_token_seconds = histograms.Add(
          "sluice_request_time_per_output_token_seconds",
          "Mean time between the tokens of an answer, one observation per answer.", StepSeconds()),
      .kv_cache_usage_ratio = AddGauge(registry, "sluice_kv_cache_usage_ratio",
                                       "Share of the KV cache that sequences use, from 0 to 1."),
      .kv_blocks_used = AddGauge(registry, "sluice_kv_blocks", kKvBlocksHelp, {{"state", "used"}}),
      .kv_blocks_free = AddGauge(registry, "sluice_kv_blocks", kKvBlocksHelp, {{"state", "free"}}),
      .kv_blocks_cached =
          AddGauge(registry, "sluice_kv_blocks", kKvBlocksHelp, {{"state", "cached"}}),
      .expert_load = expert_load,
  };
}

// Of a metric that counts things.
template <typename Metric>
int64_t ValueOf(const Metric& metric) {
  return static_cast<int64_t>(metric.Value());
}

}  // namespace

struct ServerMetrics::State {
  explicit State(std::string server_version) : version(std::move(server_version)) {}

  const std::string version;
  Registry registry;
  HistogramRegistry histograms;
  const RequestMetrics requests = MakeRequestMetrics(registry, histograms);

  mutable base::Mutex mutex;
  // Set once; they live as long as the state.
  std::optional<ModelInfo> model ABSL_GUARDED_BY(mutex);
  std::unique_ptr<ExpertLoad> expert_load ABSL_GUARDED_BY(mutex);
  ExpertMetrics expert_metrics ABSL_GUARDED_BY(mutex) = ExpertMetrics::kOff;
  std::unique_ptr<const EngineMetrics> engine ABSL_GUARDED_BY(mutex);
};

ServerMetrics::ServerMetrics(const BuildInfo& build)
    : state_(std::make_unique<State>(build.version)) {
  AddGauge(state_->registry, "sluice_build_info", "What this server is; always 1.",
           {{"version", build.version},
            {"compiler", build.compiler},
            {"isa", build.isa},
            {"kernels", build.kernels},
            {"declined", build.declined}})
      .Set(1);
}

ServerMetrics::~ServerMetrics() = default;

const RequestMetrics& ServerMetrics::requests() const { return state_->requests; }

void ServerMetrics::SetModel(const ModelInfo& model) {
  Registry& registry = state_->registry;
  AddGauge(registry, "sluice_model_info", "The served model; always 1.",
           {{"name", model.name}, {"family", model.family}, {"weights", model.weights}})
      .Set(1);
  AddGauge(registry, "sluice_model_load_seconds",
           "Time from the start of loading the model until it was ready.")
      .Set(model.load_seconds);
  for (const auto& [kind, bytes] : model.weights_bytes) {
    AddGauge(registry, "sluice_weights_bytes", "Packed weights in memory, by kind.",
             {{"kind", kind}})
        .Set(static_cast<double>(bytes));
  }
  base::MutexLock lock(state_->mutex);
  state_->model = model;
}

ExpertLoad& ServerMetrics::AddExpertLoad(std::vector<int> layers, int num_experts, int top_k,
                                         ExpertMetrics mode) {
  auto made = std::make_unique<ExpertLoad>(std::move(layers), num_experts, top_k);
  ExpertLoad& load = *made;
  base::MutexLock lock(state_->mutex);
  CHECK(state_->expert_load == nullptr);
  state_->expert_load = std::move(made);
  state_->expert_metrics = mode;
  return load;
}

EngineMetrics ServerMetrics::Engine(ExpertLoad& expert_load) {
  const EngineMetrics metrics =
      MakeEngineMetrics(state_->registry, state_->histograms, state_->requests, expert_load);
  base::MutexLock lock(state_->mutex);
  if (state_->engine == nullptr) state_->engine = std::make_unique<const EngineMetrics>(metrics);
  return metrics;
}

std::string ServerMetrics::Text() const {
  std::vector<MetricFamily> families = state_->registry.Collect();
  state_->histograms.Collect(families);
  std::vector<MetricFamily> process = CollectProcess();
  families.insert(families.end(), std::make_move_iterator(process.begin()),
                  std::make_move_iterator(process.end()));
  std::ostringstream stream;
  prometheus::TextSerializer().Serialize(stream, families);
  std::string text = stream.str();

  const ExpertLoad* load = nullptr;
  bool per_expert = false;
  {
    base::MutexLock lock(state_->mutex);
    if (state_->expert_metrics != ExpertMetrics::kOff) load = state_->expert_load.get();
    per_expert = state_->expert_metrics == ExpertMetrics::kPerExpert;
  }
  if (load != nullptr) AppendExperts(load->Read(), per_expert, text);
  return text;
}

const std::string& ServerMetrics::version() const { return state_->version; }

std::optional<ModelInfo> ServerMetrics::model() const {
  base::MutexLock lock(state_->mutex);
  return state_->model;
}

const ExpertLoad* ServerMetrics::expert_load() const {
  base::MutexLock lock(state_->mutex);
  return state_->expert_load.get();
}

std::optional<LiveFigures> ServerMetrics::Figures() const {
  const EngineMetrics* engine = nullptr;
  {
    base::MutexLock lock(state_->mutex);
    engine = state_->engine.get();
  }
  if (engine == nullptr) return std::nullopt;
  return LiveFigures{
      .requests_running = ValueOf(engine->requests_running),
      .requests_waiting = ValueOf(engine->requests_waiting),
      .prompt_tokens = ValueOf(engine->prompt_tokens_total),
      .prompt_tokens_cached = ValueOf(engine->prompt_tokens_cached_total),
      .generated_tokens = ValueOf(engine->generation_tokens_total),
      .kv_cache_usage_ratio = engine->kv_cache_usage_ratio.Value(),
      .kv_blocks_used = ValueOf(engine->kv_blocks_used),
      .kv_blocks_free = ValueOf(engine->kv_blocks_free),
      .kv_blocks_cached = ValueOf(engine->kv_blocks_cached),
      .time_to_first_token_seconds = engine->time_to_first_token_seconds.Read(),
      .inter_token_latency_seconds = engine->inter_token_latency_seconds.Read(),
  };
}

}  // namespace sluice::metrics
