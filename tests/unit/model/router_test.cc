#include "model/router.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <set>
#include <vector>

#include "kernels/reference.h"

namespace sluice::model {
namespace {

std::vector<int32_t> Choose(const std::vector<float>& probabilities, int k) {
  std::vector<int32_t> ids(k);
  ChooseExperts(probabilities, absl::MakeSpan(ids));
  return ids;
}

TEST(RouterTest, ChoosesTheMostProbableTiesToTheLowerId) {
  struct Case {
    std::vector<float> probabilities;
    int k;
    std::vector<int32_t> expected;
  };
  const Case cases[] = {
      {{1.0f}, 1, {0}},
      {{0.1f, 0.7f, 0.2f}, 2, {1, 2}},
      {{0.25f, 0.25f, 0.25f, 0.25f}, 3, {0, 1, 2}},
      {{0.1f, 0.3f, 0.3f, 0.3f}, 2, {1, 2}},
      {{0.3f, 0.1f, 0.3f, 0.3f}, 4, {0, 2, 3, 1}},
      {{0.0f, 0.0f, 1.0f}, 2, {2, 0}},
  };
  for (const Case& c : cases) EXPECT_EQ(Choose(c.probabilities, c.k), c.expected);
}

TEST(RouterTest, AgreesWithTheReferenceForAnyCounts) {
  std::mt19937 random(1);
  for (const int num_experts : {1, 2, 7, 64, 65, 128, 300}) {
    for (const int k : {1, 2, 3, 8, num_experts}) {
      if (k > num_experts) continue;
      std::vector<float> probabilities(num_experts);
      // Few different values, so that there are many ties.
      for (float& p : probabilities) p = static_cast<float>(random() % 10) / 10;
      EXPECT_EQ(Choose(probabilities, k), kernels::reference::TopK(probabilities, k));
    }
  }
}

TEST(RouterTest, NanStillGivesDistinctExperts) {
  std::vector<float> probabilities(9, std::numeric_limits<float>::quiet_NaN());
  for (int numbers = 0; numbers < 3; ++numbers) {
    const std::vector<int32_t> ids = Choose(probabilities, 4);
    EXPECT_EQ(std::set<int32_t>(ids.begin(), ids.end()).size(), 4);
    for (const int32_t id : ids) EXPECT_TRUE(id >= 0 && id < 9);
    probabilities[numbers * 4] = 0.5f;
  }
}

TEST(RouterTest, WeightsAreProbabilitiesOrSharesOfTheirSum) {
  const std::vector<float> probabilities = {0.1f, 0.4f, 0.2f, 0.3f};
  const std::vector<int32_t> ids = {1, 3};
  std::vector<float> weights(2);
  WeighExperts(probabilities, ids, /*renormalize=*/false, absl::MakeSpan(weights));
  EXPECT_EQ(weights, (std::vector<float>{0.4f, 0.3f}));
  WeighExperts(probabilities, ids, /*renormalize=*/true, absl::MakeSpan(weights));
  EXPECT_FLOAT_EQ(weights[0], 4.0f / 7);
  EXPECT_FLOAT_EQ(weights[1], 3.0f / 7);
}

}  // namespace
}  // namespace sluice::model
