#include "support/rounding.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "kernels/activation_rows.h"
#include "kernels/reference.h"
#include "support/tolerance.h"

namespace sluice::testing {

using kernels::ElementType;
using kernels::kBlockColumns;
using kernels::kQuantGroup;
using kernels::PackedMatrix;
using kernels::SourceView;
using kernels::WeightFormat;

namespace {

base::Arena MakeArena(WeightFormat format, int64_t n, int64_t k) {
  absl::StatusOr<base::Arena> arena = base::Arena::Reserve(PackedMatrix::ArenaBytes(format, n, k));
  CHECK(arena.ok());
  return *std::move(arena);
}

}  // namespace

OwnedMatrix Pack(WeightFormat format, absl::Span<const SourceView> sources, base::ThreadPool& pool,
                 const kernels::QuantizedOps* quantized, const kernels::VectorOps& vector) {
  int64_t n = 0;
  for (const SourceView& source : sources) n += source.rows;
  OwnedMatrix owned{MakeArena(format, n, sources[0].cols), {}};
  owned.matrix = PackedMatrix::Pack({.format = format,
                                     .vector = &vector,
                                     .quantized = quantized,
                                     .pool = &pool,
                                     .arena = &owned.arena},
                                    sources);
  CHECK(owned.arena.taken() == PackedMatrix::ArenaBytes(format, n, sources[0].cols));
  return owned;
}

OwnedMatrix PackPair(WeightFormat format, const SourceView& first, const SourceView& second,
                     base::ThreadPool& pool, const kernels::QuantizedOps* quantized,
                     const kernels::VectorOps& vector) {
  OwnedMatrix owned{MakeArena(format, PackedMatrix::PairColumns(first.rows), first.cols), {}};
  owned.matrix = PackedMatrix::PackPair({.format = format,
                                         .vector = &vector,
                                         .quantized = quantized,
                                         .pool = &pool,
                                         .arena = &owned.arena},
                                        first, second);
  return owned;
}

double WeightAt(const PackedMatrix& matrix, int64_t k, int64_t n) {
  const std::byte* block = matrix.block(n / kBlockColumns);
  const int64_t column = n % kBlockColumns;
  switch (matrix.format()) {
    case WeightFormat::kF32:
      return LoadElement(ElementType::kF32, block, k * kBlockColumns + column);
    case WeightFormat::kBf16:
      return LoadElement(ElementType::kBf16, block, k / 2 * 2 * kBlockColumns + column * 2 + k % 2);
    case WeightFormat::kInt8: {
      const std::byte* scales = block + PaddedK(WeightFormat::kInt8, matrix.k()) * kBlockColumns;
      const auto q = static_cast<int8_t>(block[k / 4 * 4 * kBlockColumns + column * 4 + k % 4]);
      return double{LoadElement(ElementType::kF32, scales, column)} * q;
    }
    case WeightFormat::kInt4: {
      constexpr int64_t kScaleBytes = 64;
      constexpr int64_t kGroupBytes = kScaleBytes + 512;
      const std::byte* group = block + k / kQuantGroup * kGroupBytes;
      const int64_t pair = k % kQuantGroup / 8;
      const auto byte = static_cast<uint8_t>(group[kScaleBytes + pair * 128 + column * 4 + k % 4]);
      const int level = k % 8 < 4 ? byte % 16 : byte / 16;
      return double{LoadElement(ElementType::kBf16, group, column)} * (level - 8);
    }
  }
  return 0;
}

double NumberAt(WeightFormat format, const std::byte* row, int64_t i) {
  if (format == WeightFormat::kF32) return LoadElement(ElementType::kF32, row, i);
  if (format == WeightFormat::kBf16) return LoadElement(ElementType::kBf16, row, i);
  kernels::QuantizedRowHeader header;
  std::memcpy(&header, row, sizeof(header));
  const int q = static_cast<uint8_t>(row[kernels::kQuantizedRowHeaderBytes + i]);
  return double{header.scale} * (q - header.zero_point);
}

std::vector<double> RoundWeights(WeightFormat format, const SourceView& w,
                                 const kernels::QuantizedOps* quantized) {
  base::ThreadPool pool({.num_threads = 1});
  const OwnedMatrix packed = Pack(format, {w}, pool, quantized);
  std::vector<double> rounded(w.rows * w.cols);
  for (int64_t n = 0; n < w.rows; ++n) {
    for (int64_t k = 0; k < w.cols; ++k) rounded[n * w.cols + k] = WeightAt(packed.matrix, k, n);
  }
  return rounded;
}

std::vector<double> RoundRow(WeightFormat format, absl::Span<const double> x) {
  std::vector<double> rounded(x.begin(), x.end());
  if (format == WeightFormat::kF32) return rounded;
  if (format == WeightFormat::kBf16) {
    for (double& value : rounded)
      value = kernels::FloatFromBf16(kernels::Bf16FromFloat(static_cast<float>(value)));
    return rounded;
  }
  const std::vector<float> floats(x.begin(), x.end());
  const int64_t k = static_cast<int64_t>(x.size());
  std::vector<std::byte> row(kernels::RowBytes(format, k));
  kernels::reference::ReferenceQuantizedOps().quantize_row(
      floats.data(), k, PaddedK(format, k), format == WeightFormat::kInt4, row.data());
  for (int64_t i = 0; i < k; ++i) rounded[i] = NumberAt(format, row.data(), i);
  return rounded;
}

Product ExactProduct(const std::byte* row, const PackedMatrix& matrix, int64_t n) {
  const WeightFormat format = matrix.format();
  // The least that matters: products below it may vanish.
  constexpr double kTiny = 1e-35;
  Product product = {0, 0};
  if (!IsQuantized(format)) {
    double magnitudes = 0;
    for (int64_t k = 0; k < matrix.k(); ++k) {
      const double term = NumberAt(format, row, k) * WeightAt(matrix, k, n);
      product.value += term;
      magnitudes += std::abs(term);
    }
    product.bound = DotErrorBound(matrix.k(), magnitudes) + kTiny;
    return product;
  }
  kernels::QuantizedRowHeader header;
  std::memcpy(&header, row, sizeof(header));
  const double zero = double{header.scale} * header.zero_point;
  double magnitudes = 0;
  const int64_t padded_k = PaddedK(format, matrix.k());
  for (int64_t first = 0; first < padded_k; first += kQuantGroup) {
    double levels = 0;  // the group's product before the zero point comes in
    double sum = 0;
    for (int64_t k = first; k < first + kQuantGroup; ++k) {
      const double weight = WeightAt(matrix, k, n);
      product.value += NumberAt(format, row, k) * weight;
      levels += (NumberAt(format, row, k) + zero) * weight;
      sum += weight;
    }
    magnitudes += std::abs(levels) + std::abs(zero * sum);
  }
  product.bound =
      (format == WeightFormat::kInt8 ? Int8ProductErrorBound(product.value)
                                     : Int4ProductErrorBound(padded_k / kQuantGroup, magnitudes)) +
      // The sum in double has errors too, which show where a product is all but zero.
      static_cast<double>(padded_k) * 0x1p-52 * magnitudes + kTiny;
  return product;
}

}  // namespace sluice::testing
