#include "cli/heatmap.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sluice::cli {
namespace {

constexpr int kLabelWidth = 5;
// A cell that holds a percentage.
constexpr int kWideCell = 4;
// Columns of one-character cells come in groups of this many.
constexpr int kGroup = 16;

constexpr char kFigureNames[] = "  max/mean  entropy";
constexpr int kFiguresWidth = sizeof(kFigureNames) - 1;
// One group of cells, and the blank that parts it from the label.
constexpr int kMinWidth = kLabelWidth + 1 + kGroup + kFiguresWidth;

// How much an expert has, counted in halves of the fair share, from 0 to 9; nullopt for nothing.
// 2 is balanced, 9 is 4.5 times the fair share or more.
std::optional<int> Level(int64_t routings, double mean) {
  if (routings <= 0) return std::nullopt;
  return static_cast<int>(std::min(9.0, 2 * static_cast<double>(routings) / mean));
}

// Backgrounds of the levels in the 256-colour palette: blue is idle, red is overloaded.
constexpr int kBackgrounds[10] = {17, 18, 25, 31, 37, 71, 142, 178, 208, 196};
constexpr int kFirstBrightLevel = 5;

std::string Colored(const std::string& text, std::optional<int> level) {
  if (!level.has_value()) return text;
  return absl::StrFormat("\x1b[38;5;%d;48;5;%dm%s\x1b[0m", *level < kFirstBrightLevel ? 231 : 16,
                         kBackgrounds[*level], text);
}

struct Table {
  int num_experts = 0;
  // Characters per expert, and experts per line.
  int cell_width = 0;
  int per_line = 0;
  bool color = false;

  bool wide() const { return cell_width == kWideCell; }
};

Table FitTable(absl::Span<const LayerRoutings> layers, const HeatmapOptions& options) {
  Table table{.color = options.color};
  for (const LayerRoutings& layer : layers) {
    table.num_experts = std::max(table.num_experts, static_cast<int>(layer.routings.size()));
  }
  // One column less, for the blank that parts one-character cells from the label.
  const int room = std::max(options.width, kMinWidth) - kLabelWidth - kFiguresWidth - 1;
  if (table.num_experts * kWideCell <= room) {
    table.cell_width = kWideCell;
    table.per_line = table.num_experts;
  } else {
    table.cell_width = 1;
    table.per_line = std::min(table.num_experts, std::max(room / kGroup, 1) * kGroup);
  }
  return table;
}

std::string Header(const Table& table) {
  std::string numbers;
  if (table.wide()) {
    for (int e = 0; e < table.num_experts; ++e) absl::StrAppendFormat(&numbers, "%4d", e);
  } else {
    for (int e = 0; e < table.per_line; e += kGroup) {
      absl::StrAppendFormat(&numbers, "%-*d", std::min(kGroup, table.per_line - e), e);
    }
    numbers = " " + numbers.substr(0, table.per_line);
  }
  return absl::StrCat("layer", numbers, kFigureNames, "\n");
}

std::string Cell(int64_t routings, int64_t total, double mean, const Table& table) {
  const std::optional<int> level = Level(routings, mean);
  std::string text;
  if (!level.has_value()) {
    text = absl::StrFormat("%*s", table.cell_width, ".");
  } else if (table.wide()) {
    text = absl::StrFormat("%4.0f", 100.0 * static_cast<double>(routings) / total);
  } else {
    text = absl::StrCat(*level);
  }
  return table.color ? Colored(text, level) : text;
}

std::string Row(const LayerRoutings& layer, const Table& table) {
  const int64_t total = std::accumulate(layer.routings.begin(), layer.routings.end(), int64_t{0});
  const int num_experts = static_cast<int>(layer.routings.size());
  const double mean = num_experts > 0 ? static_cast<double>(total) / num_experts : 0;
  std::string text;
  for (int begin = 0; begin == 0 || begin < num_experts; begin += table.per_line) {
    text += begin == 0 ? absl::StrFormat("%5d", layer.layer)
                       : absl::StrFormat("%5s", absl::StrCat("+", begin));
    if (!table.wide()) text += " ";
    const int end = std::min(begin + table.per_line, num_experts);
    for (int e = begin; e < end; ++e) text += Cell(layer.routings[e], total, mean, table);
    if (begin == 0) {
      text += std::string((table.per_line - end) * table.cell_width, ' ');
      absl::StrAppendFormat(&text, "%10.2f%9.2f", Imbalance(layer.routings),
                            RoutingEntropy(layer.routings));
    }
    text += "\n";
    if (table.per_line == 0) break;
  }
  return text;
}

std::string Legend(const Table& table) {
  if (table.num_experts == 0) return "";
  return table.wide() ? absl::StrFormat(
                            "percent of the layer's routings; %.1f is the fair share, . is none\n",
                            100.0 / table.num_experts)
                      : "halves of the fair share; 2 is balanced, 9 is 4.5 times or more, . is "
                        "none\n";
}

std::vector<int64_t> Tokens(const v1::LayerExpertLoad& layer) {
  return {layer.tokens().begin(), layer.tokens().end()};
}

}  // namespace

std::vector<LayerRoutings> Cumulative(const v1::GetExpertLoadResponse& load) {
  return Difference({}, load);
}

std::vector<LayerRoutings> Difference(const v1::GetExpertLoadResponse& before,
                                      const v1::GetExpertLoadResponse& after) {
  std::vector<LayerRoutings> result;
  for (const v1::LayerExpertLoad& layer : after.layers()) {
    LayerRoutings& routings = result.emplace_back(layer.layer(), Tokens(layer));
    const auto old = std::find_if(before.layers().begin(), before.layers().end(),
                                  [&](const auto& l) { return l.layer() == layer.layer(); });
    if (old == before.layers().end() || old->tokens_size() != layer.tokens_size()) continue;
    const bool restarted = !std::equal(old->tokens().begin(), old->tokens().end(),
                                       layer.tokens().begin(), std::less_equal<>());
    if (restarted) continue;
    for (int e = 0; e < layer.tokens_size(); ++e) routings.routings[e] -= old->tokens(e);
  }
  return result;
}

double Imbalance(absl::Span<const int64_t> routings) {
  const int64_t total = std::accumulate(routings.begin(), routings.end(), int64_t{0});
  if (total <= 0) return 1;
  const int64_t most = *std::max_element(routings.begin(), routings.end());
  return static_cast<double>(most) * static_cast<double>(routings.size()) /
         static_cast<double>(total);
}

double RoutingEntropy(absl::Span<const int64_t> routings) {
  const auto total =
      static_cast<double>(std::accumulate(routings.begin(), routings.end(), int64_t{0}));
  // Without routings, or with a single expert, nothing is out of balance.
  if (total <= 0 || routings.size() == 1) return 1;
  double entropy = 0;
  for (const int64_t count : routings) {
    if (count > 0) entropy -= count / total * std::log(count / total);
  }
  return entropy / std::log(static_cast<double>(routings.size()));
}

std::string RenderHeatmap(absl::Span<const LayerRoutings> layers, const HeatmapOptions& options) {
  const Table table = FitTable(layers, options);
  std::string text = Header(table);
  for (const LayerRoutings& layer : layers) text += Row(layer, table);
  return text + Legend(table);
}

}  // namespace sluice::cli
