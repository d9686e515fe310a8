#include "kernels/compute.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/reference.h"
#include "support/tolerance.h"
#include "test_kernels.h"

namespace sluice::kernels {
namespace {

std::vector<float> Rounded(WeightFormat format, std::vector<float> values) {
  if (format == WeightFormat::kBf16) {
    for (float& value : values) value = FloatFromBf16(Bf16FromFloat(value));
  }
  return values;
}

TEST(ComputeTest, MatmulAgreesWithPlainLoops) {
  base::ThreadPool pool({.num_threads = 3});
  KernelSet& kernels = TestKernels();
  for (const WeightFormat format : Formats()) {
    for (const auto& [n, k] :
         {std::pair{1, 1}, {5, 70}, {32, 32}, {33, 31}, {100, 129}, {321, 48}}) {
      ASSERT_TRUE(kernels.matmul(format).Prepare(k).ok());
      Compute compute(kernels, pool, {.max_rows = 100, .max_k = k});
      SourceMatrix w(ElementType::kBf16, n, k, 1);  // exact in both formats
      const PackedMatrix packed = PackedMatrix::Pack(format, {w.view()}, pool);
      const std::vector<float> bias = RandomFloats(n, 2);
      for (const int64_t m : {1, 2, 7, 31, 32, 33, 40, 64, 100}) {
        SCOPED_TRACE(std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k));
        const std::vector<float> x = RandomFloats(m * k, 3);
        std::vector<float> expected(m * n);
        reference::Matmul(Rounded(format, x), w.view(), absl::MakeSpan(expected));
        std::vector<float> y = RandomFloats(m * n, 4);
        const std::vector<float> before = y;
        compute.Matmul(x.data(), m, packed, {.bias = bias.data(), .add = true}, y.data());
        const double bound = testing::DotErrorBound(k, 4.0 * k + 20) + 1e-6;
        for (size_t i = 0; i < y.size(); ++i)
          ASSERT_NEAR(y[i], expected[i] + bias[i % n] + before[i], bound) << i;
        compute.Matmul(x.data(), m, packed, {}, y.data());
        for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], expected[i], bound) << i;
      }
    }
  }
}

TEST(ComputeTest, RowsAreTheSameBitsForAnyBatchAndThreadCount) {
  constexpr int64_t kK = 67;
  constexpr int64_t kN = 75;
  constexpr int64_t kM = 70;
  KernelSet& kernels = TestKernels();
  const SourceMatrix w(ElementType::kF32, kN, kK, 1);
  const std::vector<float> x = RandomFloats(kM * kK, 2);
  for (const WeightFormat format : Formats()) {
    ASSERT_TRUE(kernels.matmul(format).Prepare(kK).ok());
    std::vector<float> all(kM * kN);
    for (const int num_threads : {1, 2, 5}) {
      base::ThreadPool pool({.num_threads = num_threads});
      Compute compute(kernels, pool, {.max_rows = kM, .max_k = kK});
      const PackedMatrix packed = PackedMatrix::Pack(format, {w.view()}, pool);
      if (num_threads == 1) compute.Matmul(x.data(), kM, packed, {}, all.data());
      for (const int64_t m : {int64_t{1}, int64_t{3}, int64_t{32}, int64_t{33}, kM}) {
        for (int64_t first = 0; first + m <= kM; first += 5) {
          std::vector<float> part(m * kN);
          compute.Matmul(x.data() + first * kK, m, packed, {}, part.data());
          ASSERT_EQ(std::memcmp(part.data(), all.data() + first * kN, part.size() * sizeof(float)),
                    0)
              << m << " rows from " << first << ", " << num_threads << " threads";
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
