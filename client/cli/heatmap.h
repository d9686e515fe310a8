// RenderHeatmap: a table of layers by experts in characters, and the figures that stand beside it.
// All functions here are pure.
//
// A "routing" is one token sent to one expert; a token makes as many per layer as it uses experts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "sluice/v1/control.pb.h"

namespace sluice::cli {

struct LayerRoutings {
  // The decoder layer.
  int layer = 0;
  // Routings to each expert.
  std::vector<int64_t> routings;
};

// Everything since the server started.
std::vector<LayerRoutings> Cumulative(const v1::GetExpertLoadResponse& load);

// What came between two answers of the same server. Where a counter has gone back (the server was
// restarted), all that it has now.
std::vector<LayerRoutings> Difference(const v1::GetExpertLoadResponse& before,
                                      const v1::GetExpertLoadResponse& after);

// The most loaded expert's routings over the mean; 1 is perfect balance; also 1 without
// routings.
double Imbalance(absl::Span<const int64_t> routings);

// Entropy of the load, divided by its largest possible value: from 0 (one expert does everything)
// to 1; also 1 without routings.
double RoutingEntropy(absl::Span<const int64_t> routings);

struct HeatmapOptions {
  // Columns to fit into. Less than 41 is treated as 41.
  int width = 100;
  // Adds ANSI 256-colour backgrounds; the characters are the same without.
  bool color = false;
};

// One line per layer, with imbalance and entropy at its end, and a legend below:
//
//   layer    0   1   2   3  max/mean  entropy
//       0   25  50  25   .      2.00     0.75
//
// Cells are percentages of the layer's routings while they fit. With more experts than that, a cell
// is one character (. for none, otherwise a digit that counts halves of the fair share), and a
// layer takes as many lines as it needs.
std::string RenderHeatmap(absl::Span<const LayerRoutings> layers, const HeatmapOptions& options);

}  // namespace sluice::cli
