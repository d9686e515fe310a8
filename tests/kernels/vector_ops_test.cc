#include "kernels/vector_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <vector>

#include "kernels/reference.h"
#include "support/tolerance.h"
#include "test_kernels.h"

namespace sluice::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Relative errors of a few roundings, of the exponential (2 units) and of a sum of n.
constexpr double kFewRoundings = 16 * testing::kF32Roundoff;

class VectorOpsTest : public ::testing::TestWithParam<int> {
 protected:
  const VectorOps& ops_ = *TestKernels().vector;
  const VectorOps& truth_ = reference::ReferenceVectorOps();
  const int n_ = GetParam();
};

TEST_P(VectorOpsTest, Dot) {
  const std::vector<float> a = RandomFloats(n_, 1);
  const std::vector<float> b = RandomFloats(n_, 2);
  double magnitudes = 0;
  for (int i = 0; i < n_; ++i) magnitudes += std::abs(double{a[i]} * b[i]);
  EXPECT_NEAR(ops_.dot(a.data(), b.data(), n_), truth_.dot(a.data(), b.data(), n_),
              testing::DotErrorBound(n_, magnitudes));
}

TEST_P(VectorOpsTest, RmsNorm) {
  const std::vector<float> x = RandomFloats(n_, 1);
  const std::vector<float> weight = RandomFloats(n_, 2);
  std::vector<float> expected(n_);
  truth_.rms_norm(x.data(), weight.data(), 1e-5f, expected.data(), n_);
  std::vector<float> y = x;
  ops_.rms_norm(y.data(), weight.data(), 1e-5f, y.data(), n_);
  const double bound = kFewRoundings + testing::DotErrorBound(n_, 1);
  for (int i = 0; i < n_; ++i) EXPECT_NEAR(y[i], expected[i], bound * std::abs(expected[i])) << i;
}

TEST_P(VectorOpsTest, SiluMul) {
  std::vector<float> gate = RandomFloats(n_, 1);
  for (int i = 0; i < n_; ++i) gate[i] *= static_cast<float>(i % 7) * 5;
  gate[0] = -200;
  gate[n_ - 1] = 200;
  const std::vector<float> up = RandomFloats(n_, 2);
  std::vector<float> expected(n_);
  truth_.silu_mul(gate.data(), up.data(), expected.data(), n_);
  ops_.silu_mul(gate.data(), up.data(), gate.data(), n_);
  for (int i = 0; i < n_; ++i)
    EXPECT_NEAR(gate[i], expected[i], kFewRoundings * std::abs(expected[i]) + 1e-35) << i;
}

TEST_P(VectorOpsTest, Softmax) {
  std::vector<float> x = RandomFloats(n_, 1);
  for (float& value : x) value *= 8;
  std::vector<float> expected = x;
  truth_.softmax(expected.data(), n_);
  ops_.softmax(x.data(), n_);
  const double bound = kFewRoundings + testing::DotErrorBound(n_, 1);
  for (int i = 0; i < n_; ++i) EXPECT_NEAR(x[i], expected[i], bound * expected[i] + 1e-37) << i;
  x[n_ / 2] = std::numeric_limits<float>::quiet_NaN();
  ops_.softmax(x.data(), n_);
  for (int i = 0; i < n_; ++i) EXPECT_TRUE(std::isnan(x[i]));
}

TEST_P(VectorOpsTest, ScaleAndAddScaled) {
  const std::vector<float> x = RandomFloats(n_, 1);
  std::vector<float> y = RandomFloats(n_, 2);
  const std::vector<float> before = y;
  ops_.add_scaled(0.3f, x.data(), y.data(), n_);
  for (int i = 0; i < n_; ++i)
    EXPECT_NEAR(y[i], before[i] + 0.3 * x[i], 1e-6 * (std::abs(x[i]) + std::abs(before[i])));
  ops_.scale(0.3f, x.data(), y.data(), n_);
  for (int i = 0; i < n_; ++i) EXPECT_EQ(y[i], 0.3f * x[i]);
}

TEST_P(VectorOpsTest, AddRows) {
  for (const int rows : {1, 2, 9}) {
    const std::vector<float> x = RandomFloats(rows * n_, 1);
    // Nothing is written beyond the last column.
    std::vector<float> y = RandomFloats(n_ + 1, 2);
    std::vector<float> expected = y;
    truth_.add_rows(x.data(), rows, n_, expected.data());
    ops_.add_rows(x.data(), rows, n_, y.data());
    for (int i = 0; i < n_; ++i) {
      double magnitudes = std::abs(expected[i]);
      for (int row = 0; row < rows; ++row) magnitudes += std::abs(x[row * n_ + i]);
      EXPECT_NEAR(y[i], expected[i], testing::DotErrorBound(rows + 1, magnitudes)) << rows;
    }
    EXPECT_EQ(y[n_], expected[n_]);
  }
}

TEST_P(VectorOpsTest, Rotate) {
  std::vector<float> x = RandomFloats(2 * n_, 1);
  std::vector<float> expected = x;
  std::vector<float> cos(n_), sin(n_);
  for (int i = 0; i < n_; ++i) {
    cos[i] = std::cos(static_cast<float>(i));
    sin[i] = std::sin(static_cast<float>(i));
  }
  truth_.rotate(expected.data(), cos.data(), sin.data(), n_);
  ops_.rotate(x.data(), cos.data(), sin.data(), n_);
  for (int i = 0; i < 2 * n_; ++i) EXPECT_NEAR(x[i], expected[i], 1e-6) << i;
}

TEST_P(VectorOpsTest, ToBf16IsExact) {
  std::vector<float> x = RandomFloats(n_, 1);
  const float special[] = {0.0f,
                           -0.0f,
                           kInfinity,
                           -kInfinity,
                           1 + 0x1p-8f,
                           1 + 0x3p-8f,
                           std::numeric_limits<float>::quiet_NaN(),
                           3.4e38f,
                           1e-40f};
  for (size_t i = 0; i < std::size(special) && i < x.size(); ++i) x[x.size() - 1 - i] = special[i];
  std::vector<uint16_t> expected(n_);
  std::vector<uint16_t> y(n_ + 1, 0xabcd);
  truth_.to_bf16(x.data(), expected.data(), n_);
  ops_.to_bf16(x.data(), y.data(), n_);
  EXPECT_EQ(y.back(), 0xabcd);
  y.pop_back();
  EXPECT_EQ(y, expected);
}

TEST_P(VectorOpsTest, MaxAndArgMaxSkipNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x = RandomFloats(n_, 3);
  const auto expect_same = [&](const char* what) {
    const int64_t want = truth_.argmax(x.data(), n_);
    EXPECT_EQ(ops_.argmax(x.data(), n_), want) << what;
    EXPECT_EQ(ops_.max(x.data(), n_), truth_.max(x.data(), n_)) << what;
    if (!std::isnan(x[want])) {
      EXPECT_EQ(ops_.max(x.data(), n_), x[want]) << what;
    }
  };
  expect_same("random");
  // The greatest in every place.
  for (int i = 0; i < n_; ++i) {
    std::vector<float> one(n_, -1.5f);
    one[i] = -1;
    EXPECT_EQ(ops_.argmax(one.data(), n_), i);
    EXPECT_EQ(ops_.max(one.data(), n_), -1);
  }
  for (float& value : x) value = std::round(value);
  expect_same("many ties");
  for (int i = 0; i < n_; i += 3) x[i] = nan;
  expect_same("some NaN");
  for (int i = 0; i < n_; ++i) x[i] = i % 2 == 0 ? nan : -kInfinity;
  expect_same("only NaN and -infinity");
  x.assign(n_, nan);
  expect_same("only NaN");
  x.assign(n_, -kInfinity);
  expect_same("only -infinity");
  x[n_ - 1] = kInfinity;
  expect_same("infinity");
}

TEST_P(VectorOpsTest, ExpSum) {
  std::vector<float> x = RandomFloats(n_, 4);
  for (float& value : x) value *= 8;
  const float shift = truth_.max(x.data(), n_);
  if (n_ > 2) x[1] = std::numeric_limits<float>::quiet_NaN();
  if (n_ > 3) x[2] = -kInfinity;
  // The last one: 0 times infinity is what the coldest temperature comes to.
  for (const float scale : {1.0f, 0.1f, 3.4e38f}) {
    for (const float least : {0.0f, 0.5f, 1.0f}) {
      std::vector<float> expected(n_);
      std::vector<float> y(n_ + 1, 7);
      const double want = truth_.exp_sum(x.data(), shift, scale, least, expected.data(), n_);
      const double sum = ops_.exp_sum(x.data(), shift, scale, least, y.data(), n_);
      EXPECT_EQ(y.back(), 7);
      // The exponent is rounded twice before it is raised to, and is 87 at most.
      const double bound = kFewRoundings + 2 * 88 * testing::kF32Roundoff;
      for (int i = 0; i < n_; ++i) {
        // Whoever is that near to the border may fall to either side.
        if (std::abs(expected[i] - least) <= bound * least && expected[i] != 1) continue;
        EXPECT_NEAR(y[i], expected[i], bound * expected[i] + 1e-37) << i;
      }
      EXPECT_NEAR(sum, want, (bound + testing::DotErrorBound(n_, 1)) * want);
    }
  }
}

TEST_P(VectorOpsTest, FromHalvesIsExact) {
  for (int first = 0; first < 1 << 16; first += n_) {
    std::vector<uint16_t> x(n_);
    for (int i = 0; i < n_; ++i) x[i] = static_cast<uint16_t>(first + i);
    std::vector<float> expected(n_);
    std::vector<float> y(n_ + 1, 7);
    const auto expect_same = [&] {
      EXPECT_EQ(y.back(), 7);
      for (int i = 0; i < n_; ++i) {
        if (std::isnan(expected[i])) {
          EXPECT_TRUE(std::isnan(y[i])) << x[i];
        } else {
          EXPECT_EQ(std::memcmp(&y[i], &expected[i], sizeof(float)), 0) << x[i];
        }
      }
    };
    truth_.from_bf16(x.data(), expected.data(), n_);
    ops_.from_bf16(x.data(), y.data(), n_);
    expect_same();
    truth_.from_f16(x.data(), expected.data(), n_);
    ops_.from_f16(x.data(), y.data(), n_);
    expect_same();
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, VectorOpsTest,
                         ::testing::Values(1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 1000, 2500));

}  // namespace
}  // namespace sluice::kernels
