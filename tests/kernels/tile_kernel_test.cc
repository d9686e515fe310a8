#include "kernels/tile_kernel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/packed_matrix.h"
#include "kernels/reference.h"
#include "support/tolerance.h"
#include "test_kernels.h"

namespace sluice::kernels {
namespace {

// Activations of 32 rows, a block of weights, and scratch for one kernel.
class TileKernelTest : public ::testing::Test {
 protected:
  struct Operands {
    AlignedBuffer<std::byte> a;
    PackedMatrix b;
    size_t row_bytes;
  };

  static Operands MakeOperands(WeightFormat format, int64_t k) {
    base::ThreadPool pool({.num_threads = 1});
    const SourceMatrix w(ElementType::kF32, kBlockColumns, k, static_cast<unsigned>(k));
    const size_t row_bytes = PaddedK(format, k) * BytesOf(format);
    Operands operands{AlignedBuffer<std::byte>(kTileRows * row_bytes),
                      PackedMatrix::Pack(format, {w.view()}, pool), row_bytes};
    const std::vector<float> x = RandomFloats(kTileRows * k, static_cast<unsigned>(k) + 1);
    for (int row = 0; row < kTileRows; ++row) {
      std::byte* to = operands.a.data() + row * row_bytes;
      for (int64_t i = 0; i < k; ++i) {
        const float value = x[row * k + i];
        const uint16_t half = Bf16FromFloat(value);
        if (format == WeightFormat::kF32) {
          std::memcpy(to + 4 * i, &value, 4);
        } else {
          std::memcpy(to + 2 * i, &half, 2);
        }
      }
    }
    return operands;
  }

  static std::vector<float> Multiply(const TileKernel& kernel, const Operands& operands, int first,
                                     int m) {
    AlignedBuffer<float> c(kTileRows * kBlockColumns);
    AlignedBuffer<std::byte> scratch(kernel.scratch_bytes());
    kernel.Multiply(m, operands.b.k(), operands.a.data() + first * operands.row_bytes,
                    operands.b.block(0), c.data(), scratch.data());
    for (size_t i = m * kBlockColumns; i < c.size(); ++i) EXPECT_EQ(c[i], 0) << "beyond the tile";
    return {c.data(), c.data() + m * kBlockColumns};
  }
};

constexpr int64_t kInnerSizes[] = {1, 2, 3, 7, 16, 31, 33, 64, 77, 128, 255, 1000};

TEST_F(TileKernelTest, AgreesWithTheReference) {
  for (const WeightFormat format : Formats()) {
    TileKernel& kernel = TestKernels().matmul(format);
    const auto reference = reference::MakeTileKernel(format);
    for (const int64_t k : kInnerSizes) {
      ASSERT_TRUE(kernel.Prepare(k).ok()) << k;
      const Operands operands = MakeOperands(format, k);
      const std::vector<float> expected = Multiply(*reference, operands, 0, kTileRows);
      // Products of normal numbers: their magnitudes add up to about 2 k / pi, never near 4 k.
      const double bound = testing::DotErrorBound(k, 4.0 * static_cast<double>(k) + 20);
      for (int m = 1; m <= kTileRows; ++m) {
        const std::vector<float> actual = Multiply(kernel, operands, 0, m);
        for (size_t i = 0; i < actual.size(); ++i)
          ASSERT_NEAR(actual[i], expected[i], bound) << "M " << m << ", K " << k << ", at " << i;
      }
    }
  }
}

TEST_F(TileKernelTest, ARowsResultDoesNotDependOnItsCompany) {
  for (const WeightFormat format : Formats()) {
    TileKernel& kernel = TestKernels().matmul(format);
    for (const int64_t k : kInnerSizes) {
      ASSERT_TRUE(kernel.Prepare(k).ok()) << k;
      const Operands operands = MakeOperands(format, k);
      const std::vector<float> all = Multiply(kernel, operands, 0, kTileRows);
      for (int m = 1; m <= kTileRows; ++m) {
        for (int first = 0; first + m <= kTileRows; ++first) {
          const std::vector<float> part = Multiply(kernel, operands, first, m);
          ASSERT_EQ(std::memcmp(part.data(), all.data() + first * kBlockColumns,
                                part.size() * sizeof(float)),
                    0)
              << kernel.name() << ", rows " << first << " to " << first + m << ", K " << k;
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
