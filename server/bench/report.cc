#include "bench/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_format.h"

namespace sluice::bench {
namespace {

constexpr double kGiga = 1e9;
constexpr double kMilli = 1e-3;

Row RowOf(const std::vector<Measurement>& rounds) {
  const auto over = [&](absl::FunctionRef<double(const Measurement&)> figure) {
    std::vector<double> values;
    for (const Measurement& round : rounds) values.push_back(figure(round));
    return SpreadOf(std::move(values));
  };
  using M = const Measurement&;
  Row row{.first = rounds[0], .rounds = static_cast<int>(rounds.size())};
  row.tokens_per_second = over([](M m) { return static_cast<double>(m.tokens) / m.seconds; });
  row.step_seconds = over([](M m) { return m.seconds / static_cast<double>(m.steps); }).median;
  row.weight_rate = over([](M m) { return m.work.weight_bytes / m.seconds; }).median;
  row.read_rate = over([](M m) { return m.work.bytes() / m.seconds; }).median;
  row.flop_rate = over([](M m) { return m.work.flops / m.seconds; }).median;
  row.read_bandwidth = over([](M m) { return m.read_bandwidth; }).median;
  if (row.read_bandwidth > 0) {
    row.bandwidth_share =
        over([](M m) { return m.work.bytes() / m.seconds / m.read_bandwidth; }).median;
    row.seconds_beyond_reading =
        over([](M m) {
          return (m.seconds - m.work.bytes() / m.read_bandwidth) / static_cast<double>(m.steps);
        }).median;
  }
  return row;
}

}  // namespace

Spread SpreadOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

std::vector<Row> Rows(const std::vector<Measurement>& measurements) {
  const auto same = [](const Measurement& a, const Measurement& b) {
    return a.phase == b.phase && a.context == b.context && a.batch == b.batch;
  };
  std::vector<std::vector<Measurement>> groups;
  for (const Measurement& measurement : measurements) {
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& g) { return same(g[0], measurement); });
    if (group == groups.end()) group = groups.insert(groups.end(), std::vector<Measurement>());
    group->push_back(measurement);
  }
  std::vector<Row> rows;
  for (const auto& group : groups) rows.push_back(RowOf(group));
  return rows;
}

std::string ToJson(const Report& report, bool compact) {
  const Spread bandwidth = SpreadOf(report.read_bandwidths);
  nlohmann::ordered_json json = {
      {"model", report.model},
      {"weights", report.weights},
      {"threads", report.threads},
      {"cpu", report.cpu},
      {"isa", report.isa},
      {"read_gbps", bandwidth.median / kGiga},
      {"read_gbps_min", bandwidth.min / kGiga},
      {"read_gbps_max", bandwidth.max / kGiga},
      {"load_seconds", report.load_seconds},
      {"peak_rss_bytes", report.peak_rss_bytes},
      {"results", nlohmann::ordered_json::array()},
  };
  for (const Row& row : Rows(report.measurements)) {
    json["results"].push_back({
        {"phase", row.first.phase},
        {"context", row.first.context},
        {"batch", row.first.batch},
        {"tokens", row.first.tokens},
        {"rounds", row.rounds},
        {"tokens_per_second", row.tokens_per_second.median},
        {"tokens_per_second_min", row.tokens_per_second.min},
        {"tokens_per_second_max", row.tokens_per_second.max},
        {"weights_gbps", row.weight_rate / kGiga},
        {"weights_and_kv_gbps", row.read_rate / kGiga},
        {"gflops", row.flop_rate / kGiga},
        {"read_gbps", row.read_bandwidth / kGiga},
        {"bandwidth_share", row.bandwidth_share},
        {"step_ms", row.step_seconds / kMilli},
        {"ms_beyond_reading", row.seconds_beyond_reading / kMilli},
    });
  }
  // A folder's name need not be UTF-8.
  return json.dump(compact ? -1 : 2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
         "\n";
}

std::string ToTable(const Report& report) {
  const Spread bandwidth = SpreadOf(report.read_bandwidths);
  std::string table = absl::StrFormat(
      "%s, %s weights, %d threads\n%s, %s; reads %.1f GB/s (%.1f to %.1f); loaded in %.2f s; peak "
      "memory %.1f MB\n\n%-8s %7s %5s %10s %21s %9s %9s %8s %9s %10s\n",
      report.model, report.weights, report.threads, report.cpu, report.isa,
      bandwidth.median / kGiga, bandwidth.min / kGiga, bandwidth.max / kGiga, report.load_seconds,
      static_cast<double>(report.peak_rss_bytes) / 1e6, "phase", "context", "batch", "tokens/s",
      "(min .. max)", "read GB/s", "% of read", "GFLOP/s", "step ms", "beyond ms");
  for (const Row& row : Rows(report.measurements)) {
    const std::string range =
        absl::StrFormat("(%.1f .. %.1f)", row.tokens_per_second.min, row.tokens_per_second.max);
    absl::StrAppendFormat(&table, "%-8s %7d %5d %10.1f %21s %9.2f %9.1f %8.1f %9.3f %10.3f\n",
                          row.first.phase, row.first.context, row.first.batch,
                          row.tokens_per_second.median, range, row.read_rate / kGiga,
                          100 * row.bandwidth_share, row.flop_rate / kGiga,
                          row.step_seconds / kMilli, row.seconds_beyond_reading / kMilli);
  }
  return table +
         "\nread: weights and KV cache. beyond: a step's time less what reading its bytes "
         "takes at the machine's bandwidth.\n";
}

}  // namespace sluice::bench
