#include "test_kernels.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <utility>

#include "kernels/onednn_brgemm.h"

namespace sluice::kernels {
namespace {

// By what the processor itself says.
bool MachineHas(const std::string& tier) {
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (tier == "avx2") return __builtin_cpu_supports("avx2");
  if (tier == "avx512") return avx512;
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  if (tier == "avx512_vnni") return vnni;
  if (tier == "avx512_bf16") return vnni && __builtin_cpu_supports("avx512bf16");
  if (tier == "amx") return GetOneDnnIsa().amx;
  return true;
}

}  // namespace

std::string Tier() {
  const char* tier = std::getenv("SLUICE_KERNELS");
  return tier == nullptr ? "" : tier;
}

KernelSet& TestKernels(WeightFormat format) {
  static std::map<WeightFormat, KernelSet>* const sets = [] {
    auto* all = new std::map<WeightFormat, KernelSet>;
    for (const WeightFormat each : kAllWeightFormats) {
      absl::StatusOr<KernelSet> set = SelectKernels(each);
      if (set.ok()) {
        all->emplace(each, *std::move(set));
      } else if (each != WeightFormat::kBf16) {
        std::cout << set.status() << "\n";
        // Where the tier that ctest asked for does not exist there is nothing to test.
        std::exit(MachineHas(Tier()) ? 1 : 77);
      }
    }
    return all;
  }();
  return sets->at(format);
}

std::vector<WeightFormat> Formats() {
  TestKernels();  // limits oneDNN to the tier
  std::vector<WeightFormat> formats;
  for (const WeightFormat format : kAllWeightFormats) {
    if (format != WeightFormat::kBf16 || SelectKernels(format).ok()) formats.push_back(format);
  }
  return formats;
}

std::vector<float> RandomFloats(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

SourceMatrix::SourceMatrix(ElementType element_type, int64_t num_rows, int64_t num_cols,
                           unsigned seed)
    : type(element_type),
      rows(num_rows),
      cols(num_cols),
      bytes(1 + num_rows * num_cols * BytesOf(element_type)) {
  const std::vector<float> values = RandomFloats(rows * cols, seed);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bf16 = Bf16FromFloat(values[i]);
    // Any pattern is a binary16 number; keep the exponent small.
    const uint16_t f16 = static_cast<uint16_t>((bf16 & 0x83ff) | 0x3400);
    const void* from = type == ElementType::kF32    ? static_cast<const void*>(&values[i])
                       : type == ElementType::kBf16 ? &bf16
                                                    : &f16;
    std::memcpy(bytes.data() + 1 + i * BytesOf(type), from, BytesOf(type));
  }
}

}  // namespace sluice::kernels
