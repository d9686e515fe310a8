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

INSTANTIATE_TEST_SUITE_P(Sizes, VectorOpsTest,
                         ::testing::Values(1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 1000));

}  // namespace
}  // namespace sluice::kernels
