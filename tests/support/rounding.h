// What numbers stand for once a format holds them, one by one in double: read from the bytes as
// packed_matrix.h and activation_rows.h draw them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/packed_matrix.h"
#include "kernels/reference.h"

namespace sluice::testing {

// A packed matrix and the memory that it lies in.
struct OwnedMatrix {
  base::Arena arena;
  kernels::PackedMatrix matrix;
};

// As PackedMatrix has them. `quantized` is for int8 and int4.
OwnedMatrix Pack(kernels::WeightFormat format, absl::Span<const kernels::SourceView> sources,
                 base::ThreadPool& pool, const kernels::QuantizedOps* quantized,
                 const kernels::VectorOps& vector = kernels::reference::ReferenceVectorOps());
OwnedMatrix PackPair(kernels::WeightFormat format, const kernels::SourceView& first,
                     const kernels::SourceView& second, base::ThreadPool& pool,
                     const kernels::QuantizedOps* quantized,
                     const kernels::VectorOps& vector = kernels::reference::ReferenceVectorOps());

// Column n at k; the padding may be asked for too.
double WeightAt(const kernels::PackedMatrix& matrix, int64_t k, int64_t n);

// Number i of a row.
double NumberAt(kernels::WeightFormat format, const std::byte* row, int64_t i);

// w [N, K] as it is once packed.
std::vector<double> RoundWeights(kernels::WeightFormat format, const kernels::SourceView& w,
                                 const kernels::QuantizedOps* quantized);

// x [K] as a product takes it; quantised by the reference.
std::vector<double> RoundRow(kernels::WeightFormat format, absl::Span<const double> x);

// What a product of one row with one column must be, from the numbers as they are held, and how far
// a kernel may be from it.
struct Product {
  double value;
  double bound;
};
Product ExactProduct(const std::byte* row, const kernels::PackedMatrix& matrix, int64_t n);

}  // namespace sluice::testing
