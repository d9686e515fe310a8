#include "kernels/tile_kernel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/activation_rows.h"
#include "kernels/compute.h"
#include "kernels/onednn_brgemm.h"
#include "kernels/packed_matrix.h"
#include "kernels/quantized_tile_kernel.h"
#include "kernels/reference.h"
#include "support/rounding.h"
#include "support/tolerance.h"
#include "test_kernels.h"

namespace sluice::kernels {
namespace {

// Every K up to two groups and more, and some larger ones.
std::vector<int64_t> InnerSizes() {
  std::vector<int64_t> sizes;
  for (int64_t k = 1; k <= 77; ++k) sizes.push_back(k);
  for (const int64_t k : {127, 128, 255, 1000, 2048}) sizes.push_back(k);
  return sizes;
}

// Activations of 32 rows and a block of weights.
struct Operands {
  Operands(WeightFormat format, int64_t k)
      : Operands(
            format, k,
            SourceMatrix(ElementType::kF32, kBlockColumns, k, static_cast<unsigned>(k)).view()) {}
  Operands(WeightFormat format, int64_t k, const SourceView& w)
      : rows(kTileRows * RowBytes(format, k)),
        row_bytes(RowBytes(format, k)),
        b(testing::Pack(format, {w}, pool, TestKernels(format).quantized)) {
    const KernelSet& kernels = TestKernels(format);
    const Compute compute(kernels, pool, {.max_rows = kTileRows, .max_k = k});
    const std::vector<float> x = RandomFloats(kTileRows * k, static_cast<unsigned>(k) + 1);
    for (int row = 0; row < kTileRows; ++row) {
      // Rows that differ in size and lie to one side, as those behind a SiLU do.
      std::vector<float> numbers(x.begin() + row * k, x.begin() + (row + 1) * k);
      for (float& number : numbers) number = number * std::ldexp(1.0f, row % 5) + 0.1f * row;
      compute.ConvertRow(format, numbers.data(), k, rows.data() + row * row_bytes);
    }
  }
  const std::byte* row(int index) const { return rows.data() + index * row_bytes; }

  base::ThreadPool pool{{.num_threads = 1}};
  AlignedBuffer<std::byte> rows;
  int64_t row_bytes;
  testing::OwnedMatrix b;
};

std::vector<float> Multiply(const TileKernel& kernel, const Operands& operands, int first, int m) {
  AlignedBuffer<float> c(kTileRows * kBlockColumns);
  AlignedBuffer<std::byte> scratch(kernel.scratch_bytes());
  kernel.Multiply(m, operands.b.matrix.k(), operands.row(first), operands.b.matrix.block(0),
                  c.data(), scratch.data());
  for (size_t i = m * kBlockColumns; i < c.size(); ++i) EXPECT_EQ(c[i], 0) << "beyond the tile";
  return {c.data(), c.data() + m * kBlockColumns};
}

bool BitwiseEqual(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::unique_ptr<TileKernel> OneDnnInt8() {
  const QuantizedOps* ops = TestKernels(WeightFormat::kInt8).quantized;
  absl::StatusOr<std::unique_ptr<TileKernel>> kernel =
      MakeOneDnnTileKernel(WeightFormat::kInt8, ops);
  return kernel.ok() ? *std::move(kernel) : nullptr;
}

// The tier's kernel for each format, f32's for the router too; and of int8 those that are chosen
// only on other machines.
struct KernelUnderTest {
  WeightFormat format;
  TileKernel* kernel;
  std::unique_ptr<TileKernel> owned;
};
std::vector<KernelUnderTest> KernelsUnderTest() {
  std::vector<KernelUnderTest> all;
  for (const WeightFormat format : Formats())
    all.push_back({format, &TestKernels(format).matmul(format), nullptr});
  all.push_back({WeightFormat::kF32, TestKernels(WeightFormat::kInt8).f32.get(), nullptr});
  const auto add = [&](std::unique_ptr<TileKernel> kernel) {
    TileKernel* const borrowed = kernel.get();
    all.push_back({WeightFormat::kInt8, borrowed, std::move(kernel)});
  };
  if (Tier() != "reference" && GetOneDnnIsa().vnni) {
    const QuantizedOps& ops = *TestKernels(WeightFormat::kInt8).quantized;
    add(OneDnnInt8());
    add(MakeQuantizedTileKernel(WeightFormat::kInt8, ops));
    add(MakeQuantizedTileKernel(WeightFormat::kInt8, ops, OneDnnInt8()));
  }
  return all;
}

TEST(TileKernelTest, AgreesWithTheReferenceAndTheExactSum) {
  for (const KernelUnderTest& test : KernelsUnderTest()) {
    ASSERT_NE(test.kernel, nullptr);
    const auto reference = reference::MakeTileKernel(test.format);
    double worst = 0;
    for (const int64_t k : InnerSizes()) {
      ASSERT_TRUE(test.kernel->Prepare(k).ok()) << k;
      const Operands operands(test.format, k);
      const std::vector<float> twin = Multiply(*reference, operands, 0, kTileRows);
      std::vector<testing::Product> exact;
      for (size_t i = 0; i < twin.size(); ++i) {
        exact.push_back(testing::ExactProduct(operands.row(i / kBlockColumns), operands.b.matrix,
                                              i % kBlockColumns));
        ASSERT_NEAR(twin[i], exact[i].value,
                    testing::kF32Roundoff * std::abs(exact[i].value) + exact[i].bound / 4)
            << "reference, K " << k << ", at " << i;
      }
      for (int m = 1; m <= kTileRows; ++m) {
        const std::vector<float> actual = Multiply(*test.kernel, operands, 0, m);
        for (size_t i = 0; i < actual.size(); ++i) {
          ASSERT_NEAR(actual[i], exact[i].value, exact[i].bound)
              << test.kernel->name() << ", M " << m << ", K " << k << ", at " << i;
          worst = std::max(worst, std::abs(actual[i] - exact[i].value) / exact[i].bound);
        }
      }
    }
    std::cout << test.kernel->name() << ": worst error " << worst << " of the bound\n";
  }
}

TEST(TileKernelTest, ARowsResultDoesNotDependOnItsCompany) {
  for (const KernelUnderTest& test : KernelsUnderTest()) {
    for (const int64_t k : {1, 2, 3, 7, 16, 31, 33, 64, 77, 128, 255, 1000}) {
      // Plain loops take rows one by one.
      if (Tier() == "reference" && k > 77) continue;
      ASSERT_TRUE(test.kernel->Prepare(k).ok()) << k;
      const Operands operands(test.format, k);
      const std::vector<float> all = Multiply(*test.kernel, operands, 0, kTileRows);
      for (int m = 1; m <= kTileRows; ++m) {
        for (int first = 0; first + m <= kTileRows; ++first) {
          const std::vector<float> part = Multiply(*test.kernel, operands, first, m);
          ASSERT_EQ(std::memcmp(part.data(), all.data() + first * kBlockColumns,
                                part.size() * sizeof(float)),
                    0)
              << test.kernel->name() << ", rows " << first << " to " << first + m << ", K " << k;
        }
      }
    }
  }
}

// Integer sums are exact, so whoever computes them, the result is the same.
TEST(TileKernelTest, Int8IsTheSameBitsInAllImplementations) {
  if (Tier() == "reference") GTEST_SKIP() << "plain loops round once, at the end";
  const OneDnnIsa isa = GetOneDnnIsa();
  const auto avx2 = MakeQuantizedTileKernel(WeightFormat::kInt8, *Avx2QuantizedOps());
  for (const int64_t k : InnerSizes()) {
    const Operands operands(WeightFormat::kInt8, k);
    for (int m = 1; m <= kTileRows; ++m) {
      const std::vector<float> expected = Multiply(*avx2, operands, 0, m);
      if (isa.avx512_vnni) {
        const auto vnni = MakeQuantizedTileKernel(WeightFormat::kInt8, *Avx512VnniQuantizedOps());
        ASSERT_TRUE(BitwiseEqual(Multiply(*vnni, operands, 0, m), expected)) << m << ", " << k;
      }
      if (isa.vnni && (m == 1 || m == 9 || m == kTileRows)) {
        static const auto onednn = OneDnnInt8();
        ASSERT_TRUE(onednn->Prepare(k).ok());
        ASSERT_TRUE(BitwiseEqual(Multiply(*onednn, operands, 0, m), expected)) << m << ", " << k;
      }
    }
  }
}

// Numbers at the ends of their ranges: pairs of products overflow 16 bits, whole sums do not
// overflow 32.
TEST(TileKernelTest, QuantizedSumsDoNotSaturate) {
  constexpr int64_t kK = 2048;
  for (const KernelUnderTest& test : KernelsUnderTest()) {
    if (!IsQuantized(test.format)) continue;
    std::vector<float> w(kBlockColumns * kK);
    for (size_t i = 0; i < w.size(); ++i) w[i] = i / kK % 2 == 0 ? -1.0f : 1.0f;
    Operands operands(
        test.format, kK,
        {ElementType::kF32, kBlockColumns, kK, reinterpret_cast<const std::byte*>(w.data())});
    const KernelSet& kernels = TestKernels(test.format);
    const std::vector<float> ends[] = {std::vector<float>(kK, 1.0f), std::vector<float>(kK, -1.0f)};
    for (int row = 0; row < kTileRows; ++row) {
      kernels.quantized->quantize_row(ends[row % 2].data(), kK, kK,
                                      test.format == WeightFormat::kInt4,
                                      operands.rows.data() + row * operands.row_bytes);
    }
    ASSERT_TRUE(test.kernel->Prepare(kK).ok());
    for (const int m : {1, 3, 8, 9, kTileRows}) {
      const std::vector<float> actual = Multiply(*test.kernel, operands, 0, m);
      for (size_t i = 0; i < actual.size(); ++i) {
        const double sign = (i / kBlockColumns + i % kBlockColumns) % 2 == 0 ? -1 : 1;
        // Two roundings of scales, to f32 in int8 and to bf16 in int4.
        ASSERT_NEAR(actual[i], sign * kK, kK * 0x1p-8) << test.kernel->name() << " at " << i;
      }
    }
  }
}

TEST(TileKernelTest, RefusesInt8SumsThatCouldOverflow) {
  if (Tier() == "reference") GTEST_SKIP() << "adds in double";
  TileKernel& kernel = TestKernels(WeightFormat::kInt8).matmul(WeightFormat::kInt8);
  const absl::Status status = kernel.Prepare(kMaxInt8K + 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

}  // namespace
}  // namespace sluice::kernels
