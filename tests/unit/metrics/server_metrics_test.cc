#include "metrics/server_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace sluice::metrics {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsSubsetOf;
using ::testing::IsSupersetOf;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAreArray;

// A scrape, line by line.
struct Page {
  std::map<std::string, std::string> types;   // by family
  std::map<std::string, std::string> help;    // by family
  std::map<std::string, std::string> values;  // by series with its labels, as printed
};

Page Parse(const std::string& text) {
  Page page;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    if (absl::StartsWith(line, "# ")) {
      const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 3));
      auto& map = words[1] == "TYPE" ? page.types : page.help;
      EXPECT_TRUE(map.emplace(words[2], words[3]).second) << "twice: " << line;
    } else {
      const size_t space = line.rfind(' ');
      EXPECT_TRUE(
          page.values
              .emplace(std::string(line.substr(0, space)), std::string(line.substr(space + 1)))
              .second)
          << "twice: " << line;
    }
  }
  return page;
}

const BuildInfo kBuild = {.version = "1.2.3",
                          .compiler = "g++ 12",
                          .isa = "avx2",
                          .kernels = "vector: avx2",
                          .declined = "vector: avx512 declined: not built in"};

// Publishes one step of a layer with top-1 routing.
void Publish(ExpertLoad& load, const std::vector<int32_t>& tokens) {
  int64_t sum = 0;
  for (int32_t n : tokens) sum += n;
  const std::vector<float> floats(tokens.begin(), tokens.end());
  const double seconds = 0.125;
  load.Publish({.num_tokens = sum,
                .tokens = tokens,
                .weights = floats,
                .probabilities = floats,
                .seconds = absl::MakeConstSpan(&seconds, 1)});
}

TEST(ServerMetricsTest, HasEveryFamilyUnderItsName) {
  ServerMetrics metrics(kBuild);
  ExpertLoad& load = metrics.AddExpertLoad({0}, 2, 1, ExpertMetrics::kPerExpert);
  metrics.Engine(load);
  metrics.SetModel({.name = "demo", .weights_bytes = {{"experts", 1}}});
  const Page page = Parse(metrics.Text());

  std::vector<std::pair<std::string, std::string>> want = {
      {"requests_total", "counter"},
      {"requests_finished_total", "counter"},
      {"requests_running", "gauge"},
      {"requests_waiting", "gauge"},
      {"admission_rejections_total", "counter"},
      {"access_log_dropped_lines_total", "counter"},
      {"time_to_first_token_seconds", "histogram"},
      {"inter_token_latency_seconds", "histogram"},
      {"request_time_per_output_token_seconds", "histogram"},
      {"request_latency_seconds", "histogram"},
      {"queue_time_seconds", "histogram"},
      {"prefill_time_seconds", "histogram"},
      {"decode_time_seconds", "histogram"},
      {"request_prompt_tokens", "histogram"},
      {"request_generation_tokens", "histogram"},
      {"prompt_tokens_total", "counter"},
      {"prompt_tokens_cached_total", "counter"},
      {"prefix_cache_queries_total", "counter"},
      {"prefix_cache_hits_total", "counter"},
      {"preemptions_total", "counter"},
      {"generation_tokens_total", "counter"},
      {"step_seconds", "histogram"},
      {"step_tokens", "histogram"},
      {"step_sequences", "histogram"},
      {"step_prompt_budget_tokens", "gauge"},
      {"kv_cache_usage_ratio", "gauge"},
      {"kv_blocks", "gauge"},
      {"model_load_seconds", "gauge"},
      {"weights_bytes", "gauge"},
      {"build_info", "gauge"},
      {"model_info", "gauge"},
      {"expert_tokens_total", "counter"},
      {"expert_weight_total", "counter"},
      {"moe_imbalance", "gauge"},
      {"moe_active_experts", "gauge"},
      {"moe_routing_entropy", "gauge"},
      {"moe_load_balance_loss", "gauge"},
      {"moe_layer_seconds_total", "counter"},
  };
  for (auto& [name, type] : want) name = "sluice_" + name;
  for (const char* name : {"process_open_fds", "process_max_fds", "process_virtual_memory_bytes",
                           "process_resident_memory_bytes", "process_start_time_seconds"}) {
    want.emplace_back(name, "gauge");
  }
  want.emplace_back("process_cpu_seconds_total", "counter");
  EXPECT_THAT(page.types, UnorderedElementsAreArray(want));
  for (const auto& [name, type] : page.types) {
    EXPECT_EQ(absl::EndsWith(name, "_total"), type == "counter") << name;
    EXPECT_THAT(page.help, Contains(Pair(name, Not("")))) << name;
  }
}

TEST(ServerMetricsTest, ReferencesLeadToTheirSeries) {
  ServerMetrics metrics(kBuild);
  ExpertLoad& load = metrics.AddExpertLoad({4}, 2, 1, ExpertMetrics::kPerExpert);
  EngineMetrics engine = metrics.Engine(load);
  const RequestMetrics& requests = metrics.requests();
  requests.requests_total(Method::kGenerate, absl::StatusCode::kOk).Increment();
  requests.requests_total(Method::kAbort, absl::StatusCode::kUnauthenticated).Increment();
  requests.requests_total(Method::kAbort, static_cast<absl::StatusCode>(77)).Increment();
  requests.requests_finished_total(FinishReason::kStop).Increment(2);
  requests.requests_finished_total(FinishReason::kError).Increment(3);
  requests.admission_rejections_total(RejectionReason::kQueueFull).Increment(4);
  requests.admission_rejections_total(RejectionReason::kDuplicateId).Increment(5);
  requests.request_latency_seconds.Observe(0.5);
  requests.request_latency_seconds.Observe(1000);
  requests.request_prompt_tokens.Observe(3);
  engine.kv_blocks_used.Set(6);
  engine.kv_blocks_free.Set(7);
  engine.kv_blocks_cached.Set(9);
  engine.rejections_queue_tokens.Increment(10);
  engine.rejections_deadline.Increment(11);
  engine.requests_waiting.Set(8);
  engine.step_seconds.Observe(0.0002);
  metrics.SetModel({.name = "a \"quoted\"\\ name",
                    .family = "mixtral",
                    .weights = "bf16",
                    .load_seconds = 1.5,
                    .weights_bytes = {{"experts", 3'000'000'001}, {"attention", 2}}});
  Publish(load, {3, 1});

  const std::map<std::string, std::string> want = {
      {R"(sluice_requests_total{code="OK",method="Generate"})", "1"},
      {R"(sluice_requests_total{code="UNAUTHENTICATED",method="Abort"})", "1"},
      {R"(sluice_requests_total{code="UNKNOWN",method="Abort"})", "1"},
      {R"(sluice_requests_total{code="INTERNAL",method="Generate"})", "0"},
      {R"(sluice_requests_finished_total{reason="stop"})", "2"},
      {R"(sluice_requests_finished_total{reason="error"})", "3"},
      {R"(sluice_requests_finished_total{reason="length"})", "0"},
      {R"(sluice_admission_rejections_total{reason="queue_full"})", "4"},
      {R"(sluice_admission_rejections_total{reason="duplicate_id"})", "5"},
      {R"(sluice_request_latency_seconds_bucket{le="0.25"})", "0"},
      {R"(sluice_request_latency_seconds_bucket{le="0.5"})", "1"},
      {R"(sluice_request_latency_seconds_bucket{le="600"})", "1"},
      {R"(sluice_request_latency_seconds_bucket{le="+Inf"})", "2"},
      {R"(sluice_request_latency_seconds_count)", "2"},
      {R"(sluice_request_latency_seconds_sum)", "1000.5"},
      {R"(sluice_request_prompt_tokens_bucket{le="2"})", "0"},
      {R"(sluice_request_prompt_tokens_bucket{le="4"})", "1"},
      {R"(sluice_request_prompt_tokens_bucket{le="131072"})", "1"},
      {R"(sluice_step_seconds_bucket{le="0.0001"})", "0"},
      {R"(sluice_step_seconds_bucket{le="0.00025"})", "1"},
      {R"(sluice_kv_blocks{state="used"})", "6"},
      {R"(sluice_kv_blocks{state="free"})", "7"},
      {R"(sluice_kv_blocks{state="cached"})", "9"},
      {R"(sluice_admission_rejections_total{reason="queue_tokens"})", "10"},
      {R"(sluice_admission_rejections_total{reason="deadline"})", "11"},
      {R"(sluice_requests_waiting)", "8"},
      {R"(sluice_model_load_seconds)", "1.5"},
      {R"(sluice_weights_bytes{kind="experts"})", "3000000001"},
      {R"(sluice_weights_bytes{kind="attention"})", "2"},
      {R"(sluice_build_info{compiler="g++ 12",declined="vector: avx512 declined: not built in",)"
       R"(isa="avx2",kernels="vector: avx2",version="1.2.3"})",
       "1"},
      {R"(sluice_model_info{family="mixtral",name="a \"quoted\"\\ name",weights="bf16"})", "1"},
      {R"(sluice_expert_tokens_total{layer="4",expert="0"})", "3"},
      {R"(sluice_expert_tokens_total{layer="4",expert="1"})", "1"},
      {R"(sluice_expert_weight_total{layer="4",expert="0"})", "3"},
      {R"(sluice_moe_imbalance{layer="4"})", "1.5"},
      {R"(sluice_moe_active_experts{layer="4"})", "2"},
      {R"(sluice_moe_load_balance_loss{layer="4"})", "1.25"},
      {R"(sluice_moe_layer_seconds_total{layer="4"})", "0.125"},
  };
  EXPECT_THAT(want, IsSubsetOf(Parse(metrics.Text()).values));
}

TEST(ServerMetricsTest, FiguresAreWhatTheReferencesWereGiven) {
  ServerMetrics metrics(kBuild);
  EXPECT_EQ(metrics.version(), "1.2.3");
  EXPECT_FALSE(metrics.Figures().has_value());
  EXPECT_FALSE(metrics.model().has_value());
  EXPECT_EQ(metrics.expert_load(), nullptr);
  ExpertLoad& load = metrics.AddExpertLoad({4}, 2, 1, ExpertMetrics::kOff);
  EngineMetrics engine = metrics.Engine(load);
  metrics.SetModel({.name = "demo", .family = "mixtral", .weights = "bf16"});
  engine.requests_running.Set(1);
  engine.requests_waiting.Set(2);
  engine.prompt_tokens_total.Increment(9007199254740991);
  engine.prompt_tokens_cached_total.Increment(4);
  engine.generation_tokens_total.Increment(5);
  engine.kv_cache_usage_ratio.Set(0.25);
  engine.kv_blocks_used.Set(6);
  engine.kv_blocks_free.Set(7);
  engine.kv_blocks_cached.Set(8);
  for (double seconds : {0.0005, 0.001, 0.3, 0.3, 10000.0}) {
    engine.time_to_first_token_seconds.Observe(seconds);
  }
  engine.inter_token_latency_seconds.Observe(0.00005);

  EXPECT_EQ(metrics.expert_load(), &load);
  EXPECT_EQ(metrics.model()->name, "demo");
  const LiveFigures figures = *metrics.Figures();
  EXPECT_EQ(figures.requests_running, 1);
  EXPECT_EQ(figures.requests_waiting, 2);
  EXPECT_EQ(figures.prompt_tokens, 9007199254740991);
  EXPECT_EQ(figures.prompt_tokens_cached, 4);
  EXPECT_EQ(figures.generated_tokens, 5);
  EXPECT_EQ(figures.kv_cache_usage_ratio, 0.25);
  EXPECT_EQ(figures.kv_blocks_used, 6);
  EXPECT_EQ(figures.kv_blocks_free, 7);
  EXPECT_EQ(figures.kv_blocks_cached, 8);
  const HistogramCounts& first = figures.time_to_first_token_seconds;
  ASSERT_EQ(first.counts.size(), first.bounds.size() + 1);
  std::map<double, int64_t> by_bound;
  for (size_t i = 0; i < first.bounds.size(); ++i) {
    if (first.counts[i] > 0) by_bound[first.bounds[i]] = first.counts[i];
  }
  EXPECT_THAT(by_bound, ElementsAre(Pair(0.001, 2), Pair(0.5, 2)));
  EXPECT_EQ(first.counts.back(), 1);
  EXPECT_EQ(figures.inter_token_latency_seconds.counts.front(), 1);
}

TEST(ServerMetricsTest, ObjectivesAreBoundsOfTheirHistograms) {
  ServerMetrics metrics(kBuild);
  metrics.Engine(metrics.AddExpertLoad({0}, 2, 1, ExpertMetrics::kOff));
  const LiveFigures figures = *metrics.Figures();
  EXPECT_THAT(figures.time_to_first_token_seconds.bounds, IsSupersetOf({0.1, 0.25, 0.5, 2.5}));
  EXPECT_THAT(figures.inter_token_latency_seconds.bounds, IsSupersetOf({0.05, 0.1, 0.25, 0.5}));
}

TEST(ServerMetricsTest, AnEngineThatIsMadeAgainGoesOnCounting) {
  ServerMetrics metrics(kBuild);
  ExpertLoad& load = metrics.AddExpertLoad({0}, 2, 1, ExpertMetrics::kOff);
  for (int i = 0; i < 2; ++i) {
    EngineMetrics engine = metrics.Engine(load);
    engine.generation_tokens_total.Increment(3);
    engine.step_tokens.Observe(3);
  }
  const std::map<std::string, std::string> want = {{"sluice_generation_tokens_total", "6"},
                                                   {"sluice_step_tokens_count", "2"}};
  EXPECT_THAT(want, IsSubsetOf(Parse(metrics.Text()).values));
}

TEST(ServerMetricsTest, AHistogramAgreesWithItselfInEveryScrape) {
  constexpr int kBursts = 40, kBurst = 100;
  ServerMetrics metrics(kBuild);
  EngineMetrics engine = metrics.Engine(metrics.AddExpertLoad({0}, 2, 1, ExpertMetrics::kOff));
  std::atomic<int> scrapes{0};
  std::atomic<bool> done{false};
  std::thread observer([&] {
    for (int burst = 0; burst < kBursts; ++burst) {
      for (int i = 0; i < kBurst; ++i) {
        for (const double tokens : {1, 2, 4}) engine.step_tokens.Observe(tokens);
      }
      // There is a scrape between two bursts, and the next begins while the burst comes.
      const int before = scrapes;
      while (scrapes == before) std::this_thread::yield();
    }
    done = true;
  });
  int64_t count = 0;
  bool is_last = false;
  do {
    is_last = done;
    std::map<std::string, std::string> values = Parse(metrics.Text()).values;
    ++scrapes;
    const auto value = [&](const std::string& series) {
      return std::strtoll(values[absl::StrCat("sluice_step_tokens_", series)].c_str(), nullptr, 10);
    };
    count = value("count");
    const int64_t ones = value(R"(bucket{le="1"})");
    const int64_t up_to_two = value(R"(bucket{le="2"})");
    EXPECT_LE(ones, up_to_two);
    EXPECT_LE(up_to_two, count);
    for (const char* bound : {"4", "8192", "+Inf"}) {
      EXPECT_EQ(value(absl::StrCat("bucket{le=\"", bound, "\"}")), count) << bound;
    }
    EXPECT_EQ(value("sum"), ones + 2 * (up_to_two - ones) + 4 * (count - up_to_two));
  } while (!is_last);
  observer.join();
  EXPECT_EQ(count, 3 * kBursts * kBurst);
}

TEST(ServerMetricsTest, LargeCountsArePrintedDigitByDigit) {
  ServerMetrics metrics(kBuild);
  ExpertLoad& load = metrics.AddExpertLoad({0}, 3, 1, ExpertMetrics::kPerExpert);
  EngineMetrics engine = metrics.Engine(load);
  engine.prompt_tokens_total.Increment(123456789012);
  engine.generation_tokens_total.Increment(2147483649);
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  Publish(load, {kMost, kMost, 0});
  Publish(load, {2, 0, 0});
  for (int64_t left = 123456789012 - kMost; left > 0; left -= kMost) {
    Publish(load, {0, static_cast<int32_t>(std::min<int64_t>(left, kMost)), 0});
  }
  const std::map<std::string, std::string> want = {
      {"sluice_prompt_tokens_total", "123456789012"},
      {"sluice_generation_tokens_total", "2147483649"},
      {R"(sluice_expert_tokens_total{layer="0",expert="0"})", "2147483649"},
      {R"(sluice_expert_tokens_total{layer="0",expert="1"})", "123456789012"},
      {R"(sluice_expert_tokens_total{layer="0",expert="2"})", "0"},
  };
  EXPECT_THAT(want, IsSubsetOf(Parse(metrics.Text()).values));
}

TEST(ServerMetricsTest, ExpertSeriesAreThereFromTheStart) {
  ServerMetrics metrics(kBuild);
  EXPECT_THAT(Parse(metrics.Text()).types, Not(Contains(Key("sluice_moe_imbalance"))));
  metrics.AddExpertLoad({1, 2}, 3, 2, ExpertMetrics::kPerExpert);
  const Page page = Parse(metrics.Text());
  for (const char* layer : {"1", "2"}) {
    for (const char* expert : {"0", "1", "2"}) {
      EXPECT_THAT(page.values, Contains(Pair(absl::StrCat("sluice_expert_tokens_total{layer=\"",
                                                          layer, "\",expert=\"", expert, "\"}"),
                                             "0")));
    }
  }
}

TEST(ServerMetricsTest, ExpertMetricsModeChoosesTheFamilies) {
  const std::set<std::string> per_expert = {"sluice_expert_tokens_total",
                                            "sluice_expert_weight_total"};
  const std::set<std::string> per_layer = {
      "sluice_moe_imbalance", "sluice_moe_active_experts", "sluice_moe_routing_entropy",
      "sluice_moe_load_balance_loss", "sluice_moe_layer_seconds_total"};
  struct Case {
    ExpertMetrics mode;
    bool experts, layers;
  };
  for (const Case& c :
       {Case{ExpertMetrics::kPerExpert, true, true}, Case{ExpertMetrics::kPerLayer, false, true},
        Case{ExpertMetrics::kOff, false, false}}) {
    SCOPED_TRACE(testing::Message() << "mode " << static_cast<int>(c.mode));
    ServerMetrics metrics(kBuild);
    ExpertLoad& load = metrics.AddExpertLoad({0}, 2, 1, c.mode);
    Publish(load, {1, 2});
    const Page page = Parse(metrics.Text());
    for (const std::string& name : per_expert) EXPECT_EQ(page.types.count(name), c.experts) << name;
    for (const std::string& name : per_layer) EXPECT_EQ(page.types.count(name), c.layers) << name;
    EXPECT_EQ(load.Read().layers[0].tokens[1], 2);
  }
}

}  // namespace
}  // namespace sluice::metrics
