#include "bench/report.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"

namespace sluice::bench {
namespace {

constexpr double kGiga = 1e9;

}  // namespace

std::string ToJson(const Report& report) {
  nlohmann::ordered_json json = {
      {"model", report.model},
      {"weights", report.weights},
      {"threads", report.threads},
      {"cpu", report.cpu},
      {"isa", report.isa},
      {"read_gbps", report.read_bandwidth / kGiga},
      {"load_seconds", report.load_seconds},
      {"peak_rss_bytes", report.peak_rss_bytes},
      {"results", nlohmann::ordered_json::array()},
  };
  for (const Measurement& result : report.results) {
    json["results"].push_back({
        {"phase", result.phase},
        {"context", result.context},
        {"batch", result.batch},
        {"tokens", result.tokens},
        {"tokens_per_second", static_cast<double>(result.tokens) / result.seconds},
        {"weights_gbps", result.work.weight_bytes / result.seconds / kGiga},
        {"gflops", result.work.flops / result.seconds / kGiga},
    });
  }
  // A folder's name need not be UTF-8.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string ToTable(const Report& report) {
  std::string table = absl::StrFormat(
      "%s, %s weights, %d threads\n%s, %s; reads %.1f GB/s; loaded in %.2f s; peak memory %.1f "
      "MB\n\n%-8s %8s %6s %8s %12s %14s %9s\n",
      report.model, report.weights, report.threads, report.cpu, report.isa,
      report.read_bandwidth / kGiga, report.load_seconds,
      static_cast<double>(report.peak_rss_bytes) / 1e6, "phase", "context", "batch", "tokens",
      "tokens/s", "weights GB/s", "GFLOP/s");
  for (const Measurement& result : report.results) {
    absl::StrAppendFormat(&table, "%-8s %8d %6d %8d %12.1f %14.2f %9.1f\n", result.phase,
                          result.context, result.batch, result.tokens,
                          static_cast<double>(result.tokens) / result.seconds,
                          result.work.weight_bytes / result.seconds / kGiga,
                          result.work.flops / result.seconds / kGiga);
  }
  return table;
}

}  // namespace sluice::bench
