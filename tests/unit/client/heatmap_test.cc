#include "cli/heatmap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace sluice::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::GetExpertLoadResponse Response(const std::vector<LayerRoutings>& layers) {
  v1::GetExpertLoadResponse response;
  for (const LayerRoutings& layer : layers) {
    v1::LayerExpertLoad& load = *response.add_layers();
    load.set_layer(layer.layer);
    load.mutable_tokens()->Assign(layer.routings.begin(), layer.routings.end());
  }
  return response;
}

std::string WithoutEscapes(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b') {
      i = text.find('m', i);
    } else {
      plain += text[i];
    }
  }
  return plain;
}

TEST(HeatmapTest, FewExpertsAreShownAsPercentages) {
  const std::vector<LayerRoutings> layers = {{0, {25, 50, 25, 0}}, {12, {1, 1, 1, 1}}};
  EXPECT_EQ(RenderHeatmap(layers, {.width = 80}),
            "layer   0   1   2   3  max/mean  entropy\n"
            "    0  25  50  25   .      2.00     0.75\n"
            "   12  25  25  25  25      1.00     1.00\n"
            "percent of the layer's routings; 25.0 is the fair share, . is none\n");
}

TEST(HeatmapTest, ManyExpertsAreDigitsAndWrapToTheWidth) {
  // Fair share 10: half, fair, double, 4.5 times and more of it, and none.
  LayerRoutings layer{3, std::vector<int64_t>(40, 10)};
  layer.routings[0] = 5;
  layer.routings[1] = 0;
  layer.routings[2] = 25;
  layer.routings[33] = 0;
  layer.routings[34] = 0;
  layer.routings[39] = 30;
  // The sum is still 400.
  layer.routings[3] = 5;
  layer.routings[4] = 15;
  layer.routings[5] = 10;
  EXPECT_EQ(RenderHeatmap({layer}, {.width = 60}),
            "layer 0               16                max/mean  entropy\n"
            "    3 1.513222222222222222222222222222      3.00     0.96\n"
            "  +32 2..22226\n"
            "halves of the fair share; 2 is balanced, 9 is 4.5 times or more, . is none\n");
}

TEST(HeatmapTest, FitsIntoAnyWidthAndShowsEveryExpert) {
  for (const int num_experts : {1, 7, 8, 16, 60, 64, 128, 160, 256, 512}) {
    for (const int width : {41, 64, 80, 100, 200}) {
      SCOPED_TRACE(absl::StrCat(num_experts, " experts in ", width, " columns"));
      const LayerRoutings layer{99999, std::vector<int64_t>(num_experts, 3)};
      std::vector<std::string> lines =
          absl::StrSplit(RenderHeatmap({layer}, {.width = width}), '\n', absl::SkipEmpty());
      ASSERT_GE(lines.size(), 3u);
      const bool percentages = absl::StartsWith(lines.back(), "percent");
      lines.pop_back();
      size_t cells = 0;
      for (size_t i = 0; i < lines.size(); ++i) {
        EXPECT_LE(lines[i].size(), static_cast<size_t>(width)) << lines[i];
        if (i == 0) continue;
        const std::vector<std::string> words = absl::StrSplit(lines[i], ' ', absl::SkipEmpty());
        // The words are the layer, the cells (in one word if they are digits) and two figures.
        cells += percentages ? words.size() - 3 : words[1].size();
      }
      EXPECT_EQ(cells, static_cast<size_t>(num_experts));
    }
  }
}

TEST(HeatmapTest, ColoursChangeNothingButColour) {
  const std::vector<LayerRoutings> few = {{0, {1, 2, 3, 0, 40}}, {1, {0, 0, 0, 0, 0}}};
  const std::vector<LayerRoutings> many = {{0, std::vector<int64_t>(200, 1)}};
  for (const auto& layers : {few, many}) {
    const std::string plain = RenderHeatmap(layers, {.color = false});
    const std::string color = RenderHeatmap(layers, {.color = true});
    EXPECT_THAT(color, HasSubstr("\x1b["));
    EXPECT_EQ(WithoutEscapes(color), plain);
  }
}

TEST(HeatmapTest, ShowsNothingWhereNothingIs) {
  EXPECT_EQ(RenderHeatmap({}, {}), "layer  max/mean  entropy\n");
  EXPECT_THAT(RenderHeatmap({{4, {}}}, {}), HasSubstr("    4      1.00     1.00\n"));
  EXPECT_THAT(RenderHeatmap({{4, {0, 0}}}, {}), HasSubstr("    4   .   .      1.00     1.00\n"));
}

TEST(HeatmapTest, ImbalanceAndEntropyAreTheirDefinitions) {
  EXPECT_DOUBLE_EQ(Imbalance({4, 4, 4, 4}), 1);
  EXPECT_DOUBLE_EQ(Imbalance({8, 0, 0, 0}), 4);
  EXPECT_DOUBLE_EQ(Imbalance({0, 0}), 1);
  EXPECT_DOUBLE_EQ(Imbalance({}), 1);
  EXPECT_DOUBLE_EQ(RoutingEntropy({4, 4, 4, 4}), 1);
  EXPECT_DOUBLE_EQ(RoutingEntropy({4, 4, 0, 0}), 0.5);
  EXPECT_DOUBLE_EQ(RoutingEntropy({8, 0, 0, 0}), 0);
  EXPECT_DOUBLE_EQ(RoutingEntropy({5}), 1);
  EXPECT_DOUBLE_EQ(RoutingEntropy({0, 0}), 1);
  EXPECT_DOUBLE_EQ(RoutingEntropy({}), 1);
}

TEST(HeatmapTest, DifferenceIsWhatCameSince) {
  const auto difference = Difference(Response({{1, {1, 2, 3}}, {3, {10, 10, 10}}}),
                                     Response({{1, {1, 5, 4}}, {3, {10, 10, 11}}}));
  ASSERT_EQ(difference.size(), 2u);
  EXPECT_EQ(difference[0].layer, 1);
  EXPECT_THAT(difference[0].routings, ElementsAre(0, 3, 1));
  EXPECT_EQ(difference[1].layer, 3);
  EXPECT_THAT(difference[1].routings, ElementsAre(0, 0, 1));
}

TEST(HeatmapTest, DifferenceToARestartedServerIsAllItHas) {
  const auto restarted = Difference(Response({{0, {100, 200}}}), Response({{0, {300, 5}}}));
  EXPECT_THAT(restarted[0].routings, ElementsAre(300, 5));
  const auto other_model = Difference(Response({{0, {1, 1}}}), Response({{0, {2, 2, 2}}}));
  EXPECT_THAT(other_model[0].routings, ElementsAre(2, 2, 2));
}

}  // namespace
}  // namespace sluice::cli
