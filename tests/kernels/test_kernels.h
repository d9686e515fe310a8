// The kernels that this run of the tests uses: those of SLUICE_KERNELS, or the machine's best.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/element_types.h"
#include "kernels/kernel_set.h"

namespace sluice::kernels {

// SLUICE_KERNELS, or "".
std::string Tier();

// Kernels for the tier. The same object in every call.
// REQUIRES: `format` is one of Formats().
KernelSet& TestKernels(WeightFormat format = WeightFormat::kF32);

// The formats that the tier can multiply in: all, or all but bf16.
std::vector<WeightFormat> Formats();

// Numbers with mean 0 and deviation 1.
std::vector<float> RandomFloats(size_t n, unsigned seed);

// A source tensor with storage of its own, at an odd address.
struct SourceMatrix {
  SourceMatrix(ElementType type, int64_t rows, int64_t cols, unsigned seed);
  SourceView view() const { return {type, rows, cols, bytes.data() + 1}; }

  ElementType type;
  int64_t rows;
  int64_t cols;
  std::vector<std::byte> bytes;
};

}  // namespace sluice::kernels
