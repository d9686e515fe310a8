// The number formats of weights and activations, with their conversions to and from float.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sluice::kernels {

// What the elements of a source tensor are.
enum class ElementType { kF32, kF16, kBf16 };

constexpr size_t BytesOf(ElementType type) { return type == ElementType::kF32 ? 4 : 2; }

// What the engine multiplies with. Sums are f32 in all of them.
//
//          weights                                    activations
//   f32    f32                                        f32
//   bf16   bf16                                       bf16
//   int8   s8, one scale for each output column       u8, scale and zero point for each row
//   int4   4 bits, a bf16 scale for 32 along K        u8, scale and zero point for each row
enum class WeightFormat { kF32, kBf16, kInt8, kInt4 };

inline constexpr WeightFormat kAllWeightFormats[] = {WeightFormat::kF32, WeightFormat::kBf16,
                                                     WeightFormat::kInt8, WeightFormat::kInt4};

// As flags, log and metrics spell it.
constexpr const char* NameOf(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return "f32";
    case WeightFormat::kBf16:
      return "bf16";
    case WeightFormat::kInt8:
      return "int8";
    case WeightFormat::kInt4:
      return "int4";
  }
  return "";
}

constexpr bool IsQuantized(WeightFormat format) {
  return format == WeightFormat::kInt8 || format == WeightFormat::kInt4;
}

// Weights along K that share a scale in int4; K is padded to it in int8 too.
inline constexpr int64_t kQuantGroup = 32;

// K as it is stored: bf16 products take K in pairs, quantised ones in groups.
constexpr int64_t PaddedK(WeightFormat format, int64_t k) {
  const int64_t unit = format == WeightFormat::kF32    ? 1
                       : format == WeightFormat::kBf16 ? 2
                                                       : kQuantGroup;
  return (k + unit - 1) / unit * unit;
}

// Borrowed: a row-major, contiguous matrix, its elements not necessarily aligned to their size.
struct SourceView {
  ElementType type = ElementType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;
};

// A bf16 number is the upper half of a float; rounds to nearest, ties to even. NaN stays NaN.
inline uint16_t Bf16FromFloat(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float FloatFromBf16(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

// IEEE 754 binary16, exact.
inline float FloatFromF16(uint16_t value) {
  const uint32_t sign = static_cast<uint32_t>(value & 0x8000) << 16;
  const uint32_t exponent = (value >> 10) & 0x1f;
  const uint32_t mantissa = value & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000 | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float subnormal = static_cast<float>(mantissa) * 0x1p-24f;
  return sign != 0 ? -subnormal : subnormal;
}

// Element `index` of unaligned data.
inline float LoadElement(ElementType type, const std::byte* data, int64_t index) {
  if (type == ElementType::kF32) {
    float value;
    std::memcpy(&value, data + 4 * index, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + 2 * index, sizeof(bits));
  return type == ElementType::kBf16 ? FloatFromBf16(bits) : FloatFromF16(bits);
}

}  // namespace sluice::kernels
