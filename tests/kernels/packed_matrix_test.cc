#include "kernels/packed_matrix.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <oneapi/dnnl/dnnl.hpp>
#include <oneapi/dnnl/dnnl_ukernel.hpp>
#include <string>
#include <utility>

#include "kernels/onednn_brgemm.h"
#include "test_kernels.h"

namespace sluice::kernels {
namespace {

// Column n of a packed matrix at k, as the layout in the header says.
float Element(const PackedMatrix& packed, int64_t k, int64_t n) {
  const std::byte* block = packed.block(n / kBlockColumns);
  const int64_t column = n % kBlockColumns;
  return packed.format() == WeightFormat::kF32
             ? LoadElement(ElementType::kF32, block, k * kBlockColumns + column)
             : LoadElement(ElementType::kBf16, block, (k / 2 * kBlockColumns + column) * 2 + k % 2);
}

float Expected(WeightFormat format, const SourceView& source, int64_t k, int64_t n) {
  const float value = LoadElement(source.type, source.data, n * source.cols + k);
  return format == WeightFormat::kF32 ? value : FloatFromBf16(Bf16FromFloat(value));
}

TEST(PackedMatrixTest, HoldsEveryElementAndZeros) {
  base::ThreadPool pool({.num_threads = 2});
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kBf16}) {
    for (const ElementType type : {ElementType::kF32, ElementType::kF16, ElementType::kBf16}) {
      for (const auto& [n, k] : {std::pair{1, 1}, {31, 7}, {32, 64}, {33, 65}, {70, 130}}) {
        SCOPED_TRACE(std::to_string(n) + " x " + std::to_string(k));
        const SourceMatrix source(type, n, k, 1);
        const PackedMatrix packed = PackedMatrix::Pack(format, {source.view()}, pool);
        ASSERT_EQ(packed.n(), n);
        ASSERT_EQ(packed.k(), k);
        for (int64_t column = 0; column < packed.num_blocks() * kBlockColumns; ++column) {
          for (int64_t i = 0; i < PaddedK(format, k); ++i) {
            const float expected =
                column < n && i < k ? Expected(format, source.view(), i, column) : 0;
            ASSERT_EQ(Element(packed, i, column), expected) << "k " << i << ", n " << column;
          }
        }
      }
    }
  }
}

TEST(PackedMatrixTest, JoinsSourcesWithoutGaps) {
  base::ThreadPool pool({.num_threads = 2});
  const SourceMatrix q(ElementType::kF32, 45, 9, 1);
  const SourceMatrix k(ElementType::kBf16, 3, 9, 2);
  const SourceMatrix v(ElementType::kF16, 40, 9, 3);
  const PackedMatrix packed =
      PackedMatrix::Pack(WeightFormat::kF32, {q.view(), k.view(), v.view()}, pool);
  ASSERT_EQ(packed.n(), 88);
  for (int64_t n = 0; n < 88; ++n) {
    const auto& [source, row] = n < 45   ? std::pair{&q, n}
                                : n < 48 ? std::pair{&k, n - 45}
                                         : std::pair{&v, n - 48};
    for (int64_t i = 0; i < 9; ++i)
      ASSERT_EQ(Element(packed, i, n), Expected(WeightFormat::kF32, source->view(), i, row));
  }
}

TEST(PackedMatrixTest, PairsTakeBlocksInTurn) {
  base::ThreadPool pool({.num_threads = 2});
  const SourceMatrix gate(ElementType::kF32, 37, 5, 1);
  const SourceMatrix up(ElementType::kF32, 37, 5, 2);
  const PackedMatrix packed =
      PackedMatrix::PackPair(WeightFormat::kF32, gate.view(), up.view(), pool);
  ASSERT_EQ(packed.num_blocks(), 4);
  for (int64_t n = 0; n < 128; ++n) {
    const SourceMatrix& source = n / 32 % 2 == 0 ? gate : up;
    const int64_t row = n / 64 * 32 + n % 32;
    for (int64_t k = 0; k < 5; ++k) {
      const float expected = row < 37 ? Expected(WeightFormat::kF32, source.view(), k, row) : 0;
      ASSERT_EQ(Element(packed, k, n), expected) << n;
    }
  }
}

// oneDNN reads what its own transform would have written.
TEST(PackedMatrixTest, Bf16LayoutIsOnednnsByteForByte) {
  TestKernels();  // limits oneDNN to the tier
  base::ThreadPool pool({.num_threads = 1});
  for (const int64_t k : {2, 64, 130}) {
    const SourceMatrix source(ElementType::kBf16, kBlockColumns, k, 4);
    const PackedMatrix packed = PackedMatrix::Pack(WeightFormat::kBf16, {source.view()}, pool);
    dnnl::ukernel::transform transform(k, kBlockColumns, dnnl::ukernel::pack_type::trans, k,
                                       kBlockColumns, dnnl::memory::data_type::bf16,
                                       dnnl::memory::data_type::bf16);
    if (!GetOneDnnIsa().avx512) GTEST_SKIP() << "oneDNN's transform needs AVX-512";
    transform.generate();
    AlignedBuffer<std::byte> in(k * kBlockColumns * 2);
    std::memcpy(in.data(), source.view().data, in.size());
    // The transform writes zeros up to the next multiple of 32 rows, which brgemm does not read.
    AlignedBuffer<std::byte> out((k + 31) / 32 * 32 * kBlockColumns * 2);
    transform.execute(in.data(), out.data());
    EXPECT_EQ(std::memcmp(packed.block(0), out.data(), packed.bytes()), 0) << "K = " << k;
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
