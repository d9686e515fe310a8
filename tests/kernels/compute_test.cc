#include "kernels/compute.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "support/rounding.h"
#include "support/tolerance.h"
#include "test_kernels.h"

namespace sluice::kernels {
namespace {

TEST(ComputeTest, MatmulAgreesWithPlainLoops) {
  constexpr int64_t kMaxRows = 100;
  base::ThreadPool pool({.num_threads = 3});
  for (const WeightFormat format : Formats()) {
    KernelSet& kernels = TestKernels(format);
    for (const auto& [n, k] :
         {std::pair{1, 1}, {5, 70}, {32, 32}, {33, 31}, {100, 129}, {321, 48}}) {
      ASSERT_TRUE(kernels.matmul(format).Prepare(k).ok());
      Compute compute(kernels, pool, {.max_rows = kMaxRows, .max_k = k});
      const SourceMatrix w(ElementType::kBf16, n, k, 1);
      const testing::OwnedMatrix packed =
          testing::Pack(format, {w.view()}, pool, kernels.quantized);
      const std::vector<float> x = RandomFloats(kMaxRows * k, 3);
      const std::vector<float> bias = RandomFloats(n, 2);
      const std::vector<float> before = RandomFloats(kMaxRows * n, 4);
      // From the numbers as the product takes them.
      std::vector<std::byte> row(RowBytes(format, k));
      std::vector<testing::Product> expected;
      for (int64_t i = 0; i < kMaxRows; ++i) {
        compute.ConvertRow(format, x.data() + i * k, k, row.data());
        for (int64_t column = 0; column < n; ++column)
          expected.push_back(testing::ExactProduct(row.data(), packed.matrix, column));
      }
      std::vector<int64_t> batches = {64, 65, kMaxRows};
      for (int64_t m = 1; m <= 40; ++m) batches.push_back(m);
      for (const int64_t m : batches) {
        SCOPED_TRACE(std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) +
                     " in " + NameOf(format));
        std::vector<float> y(before.begin(), before.begin() + m * n);
        compute.Matmul(x.data(), m, packed.matrix, {.bias = bias.data(), .add = true}, y.data());
        for (size_t i = 0; i < y.size(); ++i) {
          const double sum = expected[i].value + bias[i % n] + before[i];
          // Two more sums, whose roundings are relative to what they reach.
          const double reached =
              std::abs(expected[i].value) + std::abs(bias[i % n]) + std::abs(before[i]);
          ASSERT_NEAR(y[i], sum, expected[i].bound + 3 * testing::kF32Roundoff * reached) << i;
        }
        compute.Matmul(x.data(), m, packed.matrix, {}, y.data());
        for (size_t i = 0; i < y.size(); ++i)
          ASSERT_NEAR(y[i], expected[i].value, expected[i].bound) << i;
      }
    }
  }
}

TEST(ComputeTest, RowsAreTheSameBitsForAnyBatchAndThreadCount) {
  constexpr int64_t kK = 67;
  constexpr int64_t kN = 75;
  constexpr int64_t kM = 70;
  const SourceMatrix w(ElementType::kF32, kN, kK, 1);
  const std::vector<float> x = RandomFloats(kM * kK, 2);
  for (const WeightFormat format : Formats()) {
    KernelSet& kernels = TestKernels(format);
    ASSERT_TRUE(kernels.matmul(format).Prepare(kK).ok());
    std::vector<float> all(kM * kN);
    for (const int num_threads : {1, 2, 5}) {
      base::ThreadPool pool({.num_threads = num_threads});
      Compute compute(kernels, pool, {.max_rows = kM, .max_k = kK});
      const testing::OwnedMatrix owned = testing::Pack(format, {w.view()}, pool, kernels.quantized);
      const PackedMatrix& packed = owned.matrix;
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
