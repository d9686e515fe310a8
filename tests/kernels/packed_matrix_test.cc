#include "kernels/packed_matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <oneapi/dnnl/dnnl.hpp>
#include <oneapi/dnnl/dnnl_ukernel.hpp>
#include <string>
#include <utility>
#include <vector>

#include "kernels/activation_rows.h"
#include "kernels/aligned_buffer.h"
#include "kernels/onednn_brgemm.h"
#include "support/rounding.h"
#include "support/tolerance.h"
#include "test_kernels.h"

namespace sluice::kernels {
namespace {

using testing::WeightAt;

const QuantizedOps* Quantized(WeightFormat format) {
  return IsQuantized(format) ? TestKernels(format).quantized : nullptr;
}

double Source(const SourceView& source, int64_t k, int64_t n) {
  return LoadElement(source.type, source.data, n * source.cols + k);
}

// Largest magnitude of row n in [first, first + count) of k.
double LargestMagnitude(const SourceView& source, int64_t n, int64_t first, int64_t count) {
  double largest = 0;
  for (int64_t k = first; k < std::min(first + count, source.cols); ++k)
    largest = std::max(largest, std::abs(Source(source, k, n)));
  return largest;
}

// How far column n may be from its source at k.
double Bound(WeightFormat format, const SourceView& source, int64_t k, int64_t n) {
  switch (format) {
    case WeightFormat::kF32:
      return 0;
    case WeightFormat::kBf16:
      return testing::kBf16Roundoff * std::abs(Source(source, k, n));
    case WeightFormat::kInt8: {
      // Half a step; f32 rounds the scale, its inverse and the products of up to 127 with both.
      const double step = LargestMagnitude(source, n, 0, source.cols) / 127;
      return step * (0.5 + 127 * 4 * testing::kF32Roundoff);
    }
    case WeightFormat::kInt4: {
      // The squared error of a group is at most that of the plain scale, which maps the largest
      // weight to -8 and so makes errors of half a step, but a whole one for what would be 8.
      const int64_t first = k / kQuantGroup * kQuantGroup;
      const double step = LargestMagnitude(source, n, first, kQuantGroup) / 8;
      return step * (1 + 8 * testing::kBf16Roundoff) * std::sqrt(double{kQuantGroup});
    }
  }
  return 0;
}

// What stands behind the elements of a quantised block.
void ExpectTail(const PackedMatrix& packed, int64_t n) {
  const std::byte* tail = packed.block(n / kBlockColumns) + packed.block_bytes();
  const int64_t column = n % kBlockColumns;
  const int64_t padded_k = PaddedK(packed.format(), packed.k());
  double sum = 0;
  double magnitudes = 0;
  for (int64_t k = 0; k < padded_k; ++k) {
    sum += WeightAt(packed, k, n);
    magnitudes += std::abs(WeightAt(packed, k, n));
  }
  if (packed.format() == WeightFormat::kInt4) {
    EXPECT_NEAR(LoadElement(ElementType::kF32, tail - 4 * kBlockColumns, column), sum,
                testing::DotErrorBound(padded_k / kQuantGroup, magnitudes));
  } else {
    int32_t stored;
    std::memcpy(&stored, tail - 4 * kBlockColumns + 4 * column, sizeof(stored));
    const double scale = LoadElement(ElementType::kF32, tail - 8 * kBlockColumns, column);
    EXPECT_NEAR(stored * scale, sum, 1e-9);
  }
}

TEST(PackedMatrixTest, HoldsEveryElementAndZeros) {
  base::ThreadPool pool({.num_threads = 2});
  for (const WeightFormat format : kAllWeightFormats) {
    for (const ElementType type : {ElementType::kF32, ElementType::kF16, ElementType::kBf16}) {
      for (const auto& [n, k] :
           {std::pair{1, 1}, {31, 7}, {32, 64}, {33, 65}, {70, 130}, {40, 31}}) {
        SCOPED_TRACE(std::string(NameOf(format)) + ": " + std::to_string(n) + " x " +
                     std::to_string(k));
        const SourceMatrix source(type, n, k, 1);
        const testing::OwnedMatrix owned =
            testing::Pack(format, {source.view()}, pool, Quantized(format), *TestKernels().vector);
        const PackedMatrix& packed = owned.matrix;
        ASSERT_EQ(packed.format(), format);
        ASSERT_EQ(packed.n(), n);
        ASSERT_EQ(packed.k(), k);
        ASSERT_EQ(packed.num_blocks(), (n + 31) / 32);
        ASSERT_LE(packed.bytes(), PackedMatrix::ArenaBytes(format, n, k));
        for (int64_t column = 0; column < packed.num_blocks() * kBlockColumns; ++column) {
          for (int64_t i = 0; i < PaddedK(format, k); ++i) {
            const bool is_there = column < n && i < k;
            const double expected = is_there ? Source(source.view(), i, column) : 0;
            const double bound = is_there ? Bound(format, source.view(), i, column) : 0;
            ASSERT_NEAR(WeightAt(packed, i, column), expected, bound)
                << "k " << i << ", n " << column;
          }
          if (IsQuantized(format)) ExpectTail(packed, column);
        }
      }
    }
  }
}

// Which rows become which columns is the same whatever the format: each column is the one that its
// source makes by itself.
TEST(PackedMatrixTest, JoinsSourcesWithoutGaps) {
  base::ThreadPool pool({.num_threads = 2});
  constexpr int64_t kK = 35;
  const SourceMatrix q(ElementType::kF32, 45, kK, 1);
  const SourceMatrix k(ElementType::kBf16, 3, kK, 2);
  const SourceMatrix v(ElementType::kF16, 40, kK, 3);
  for (const WeightFormat format : kAllWeightFormats) {
    const QuantizedOps* ops = Quantized(format);
    const testing::OwnedMatrix packed =
        testing::Pack(format, {q.view(), k.view(), v.view()}, pool, ops, *TestKernels().vector);
    ASSERT_EQ(packed.matrix.n(), 88);
    std::vector<double> expected;
    for (const SourceMatrix* source : {&q, &k, &v}) {
      const std::vector<double> part = testing::RoundWeights(format, source->view(), ops);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    for (int64_t n = 0; n < 88; ++n) {
      for (int64_t i = 0; i < kK; ++i)
        ASSERT_EQ(WeightAt(packed.matrix, i, n), expected[n * kK + i]) << NameOf(format);
    }
  }
}

TEST(PackedMatrixTest, PairsTakeBlocksInTurn) {
  base::ThreadPool pool({.num_threads = 2});
  constexpr int64_t kK = 35;
  const SourceMatrix gate(ElementType::kF32, 37, kK, 1);
  const SourceMatrix up(ElementType::kF32, 37, kK, 2);
  for (const WeightFormat format : kAllWeightFormats) {
    const QuantizedOps* ops = Quantized(format);
    const testing::OwnedMatrix packed =
        testing::PackPair(format, gate.view(), up.view(), pool, ops, *TestKernels().vector);
    ASSERT_EQ(packed.matrix.num_blocks(), 4);
    const std::vector<double> expected[] = {testing::RoundWeights(format, gate.view(), ops),
                                            testing::RoundWeights(format, up.view(), ops)};
    for (int64_t n = 0; n < 128; ++n) {
      const int64_t row = n / 64 * 32 + n % 32;
      for (int64_t k = 0; k < kK; ++k) {
        ASSERT_EQ(WeightAt(packed.matrix, k, n), row < 37 ? expected[n / 32 % 2][row * kK + k] : 0)
            << NameOf(format) << ", " << n;
      }
    }
  }
}

TEST(PackedMatrixTest, BytesAreThoseOfTheLayout) {
  struct Row {
    WeightFormat format;
    int64_t k;
    int64_t block_bytes;
  };
  const Row rows[] = {
      {WeightFormat::kF32, 33, 33 * 32 * 4},
      {WeightFormat::kBf16, 33, 34 * 32 * 2},
      {WeightFormat::kInt8, 33, 64 * 32 + 32 * 4 + 32 * 4},
      {WeightFormat::kInt8, 64, 64 * 32 + 32 * 4 + 32 * 4},
      {WeightFormat::kInt4, 33, 2 * (64 + 512) + 32 * 4},
      {WeightFormat::kInt4, 2048, 64 * (64 + 512) + 32 * 4},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(BlockBytes(row.format, row.k), row.block_bytes) << NameOf(row.format);
    EXPECT_EQ(row.block_bytes % 64, 0);
    EXPECT_EQ(PackedMatrix::ArenaBytes(row.format, 65, row.k), 3 * row.block_bytes);
  }
}

// A weight that is not finite spoils its column, and no other.
TEST(PackedMatrixTest, WeightsThatAreNotFiniteMakeTheirColumnsNan) {
  constexpr int64_t kK = 70;
  base::ThreadPool pool({.num_threads = 1});
  const float kInfinity = std::numeric_limits<float>::infinity();
  const float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    const KernelSet& kernels = TestKernels(format);
    for (const float bad : {kNan, -kNan, kInfinity, -kInfinity}) {
      for (const int64_t at : {0, 31, 69}) {
        std::vector<float> w = RandomFloats(3 * kK, 1);
        w[kK + at] = bad;
        const SourceView source = {ElementType::kF32, 3, kK,
                                   reinterpret_cast<const std::byte*>(w.data())};
        const testing::OwnedMatrix packed =
            testing::Pack(format, {source}, pool, kernels.quantized, *kernels.vector);
        TileKernel& kernel = kernels.matmul(format);
        ASSERT_TRUE(kernel.Prepare(kK).ok());
        // A row of zeros too: zero times anything must not hide it.
        for (const float factor : {0.0f, 1.0f}) {
          std::vector<float> x = RandomFloats(kK, 2);
          for (float& value : x) value *= factor;
          AlignedBuffer<std::byte> row(RowBytes(format, kK));
          kernels.quantized->quantize_row(x.data(), kK, PaddedK(format, kK),
                                          format == WeightFormat::kInt4, row.data());
          AlignedBuffer<float> c(kTileRows * kBlockColumns);
          AlignedBuffer<std::byte> scratch(kernel.scratch_bytes());
          kernel.Multiply(1, kK, row.data(), packed.matrix.block(0), c.data(), scratch.data());
          for (int n = 0; n < kBlockColumns; ++n) {
            EXPECT_EQ(std::isnan(c[n]), n == 1) << NameOf(format) << ", " << bad << " at " << at
                                                << ": column " << n << " is " << c[n];
          }
        }
      }
    }
  }
}

// oneDNN reads what its own transform would have written.
TEST(PackedMatrixTest, LayoutsAreOnednnsByteForByte) {
  TestKernels();  // limits oneDNN to the tier
  if (!GetOneDnnIsa().avx512) GTEST_SKIP() << "oneDNN's transform needs AVX-512";
  base::ThreadPool pool({.num_threads = 1});
  for (const int64_t k : {2, 64, 130}) {
    const SourceMatrix source(ElementType::kBf16, kBlockColumns, k, 4);
    const testing::OwnedMatrix packed =
        testing::Pack(WeightFormat::kBf16, {source.view()}, pool, nullptr, *TestKernels().vector);
    dnnl::ukernel::transform transform(k, kBlockColumns, dnnl::ukernel::pack_type::trans, k,
                                       kBlockColumns, dnnl::memory::data_type::bf16,
                                       dnnl::memory::data_type::bf16);
    transform.generate();
    AlignedBuffer<std::byte> in(k * kBlockColumns * 2);
    std::memcpy(in.data(), source.view().data, in.size());
    // The transform writes zeros up to the next multiple of 32 rows, which brgemm does not read.
    AlignedBuffer<std::byte> out((k + 31) / 32 * 32 * kBlockColumns * 2);
    transform.execute(in.data(), out.data());
    EXPECT_EQ(std::memcmp(packed.matrix.block(0), out.data(), packed.matrix.bytes()), 0)
        << "K = " << k;
  }
  for (const int64_t k : {32, 64, 160}) {
    // Whole numbers whose scale is 1, as 127 is among them in every row.
    std::vector<float> w(kBlockColumns * k);
    AlignedBuffer<std::byte> in(w.size());
    for (size_t i = 0; i < w.size(); ++i) {
      const int q = i % k == 0 ? 127 : static_cast<int>(i * 37 % 255) - 127;
      w[i] = static_cast<float>(q);
      in.data()[i] = static_cast<std::byte>(q);
    }
    const SourceView source = {ElementType::kF32, kBlockColumns, k,
                               reinterpret_cast<const std::byte*>(w.data())};
    const testing::OwnedMatrix packed =
        testing::Pack(WeightFormat::kInt8, {source}, pool, Quantized(WeightFormat::kInt8));
    dnnl::ukernel::transform transform(k, kBlockColumns, dnnl::ukernel::pack_type::trans, k,
                                       kBlockColumns, dnnl::memory::data_type::s8,
                                       dnnl::memory::data_type::s8);
    transform.generate();
    AlignedBuffer<std::byte> out((k + 63) / 64 * 64 * kBlockColumns);
    transform.execute(in.data(), out.data());
    EXPECT_EQ(std::memcmp(packed.matrix.block(0), out.data(), k * kBlockColumns), 0) << "K = " << k;
  }
}

TEST(ElementTypesTest, ConversionsAreExactWhereTheyCanBe) {
  // Every binary16 number, against its definition.
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = static_cast<int>(bits >> 10 & 0x1f);
    const int mantissa = static_cast<int>(bits & 0x3ff);
    const double sign = bits & 0x8000 ? -1 : 1;
    const float actual = FloatFromF16(static_cast<uint16_t>(bits));
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(actual), mantissa != 0);
      EXPECT_EQ(std::isinf(actual), mantissa == 0);
    } else {
      EXPECT_EQ(actual, sign * (exponent == 0 ? std::ldexp(mantissa, -24)
                                              : std::ldexp(1024 + mantissa, exponent - 25)));
    }
  }
  // bf16 numbers survive the way through float; ties go to even; NaN stays NaN.
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = FloatFromBf16(static_cast<uint16_t>(bits));
    if (!std::isnan(value)) {
      EXPECT_EQ(Bf16FromFloat(value), bits);
    }
  }
  EXPECT_EQ(FloatFromBf16(Bf16FromFloat(1 + 0x1p-8f)), 1.0f);
  EXPECT_EQ(FloatFromBf16(Bf16FromFloat(1 + 0x3p-8f)), 1 + 0x1p-6f);
  EXPECT_TRUE(std::isnan(FloatFromBf16(Bf16FromFloat(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isnan(FloatFromBf16(Bf16FromFloat(std::bit_cast<float>(0x7f800001)))));
}

}  // namespace
}  // namespace sluice::kernels
