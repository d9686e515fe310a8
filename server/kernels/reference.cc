#include "kernels/reference.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "kernels/activation_rows.h"
#include "kernels/packed_matrix.h"

namespace sluice::kernels::reference {
namespace {

// Bytes of a block's group of 32 steps of k.
constexpr int64_t kInt4GroupBytes = 2 * kBlockColumns + kQuantGroup * kBlockColumns / 2;

// What number `i` of a row stands for.
double Activation(WeightFormat format, const std::byte* row, int64_t i) {
  if (format == WeightFormat::kF32) return LoadElement(ElementType::kF32, row, i);
  if (format == WeightFormat::kBf16) return LoadElement(ElementType::kBf16, row, i);
  QuantizedRowHeader header;
  std::memcpy(&header, row, sizeof(header));
  const int q = static_cast<uint8_t>(row[kQuantizedRowHeaderBytes + i]);
  return double{header.scale} * (q - header.zero_point);
}

// What a block has at (k, n).
double Weight(WeightFormat format, int64_t num_k, const std::byte* block, int64_t k, int n) {
  const int64_t padded_k = PaddedK(format, num_k);
  switch (format) {
    case WeightFormat::kF32:
      return LoadElement(ElementType::kF32, block, k * kBlockColumns + n);
    case WeightFormat::kBf16:
      return LoadElement(ElementType::kBf16, block, (k / 2 * kBlockColumns + n) * 2 + k % 2);
    case WeightFormat::kInt8: {
      const auto q = static_cast<int8_t>(block[(k / 4 * kBlockColumns + n) * 4 + k % 4]);
      return double{LoadElement(ElementType::kF32, block + padded_k * kBlockColumns, n)} * q;
    }
    case WeightFormat::kInt4: {
      const std::byte* group = block + k / kQuantGroup * kInt4GroupBytes;
      const int64_t i = k % kQuantGroup;
      const int byte =
          static_cast<int>(group[2 * kBlockColumns + (i / 8 * kBlockColumns + n) * 4 + i % 4]);
      const int q = i % 8 < 4 ? byte & 15 : byte >> 4;
      return double{LoadElement(ElementType::kBf16, group, n)} * (q - 8);
    }
  }
  return 0;
}

class ReferenceTileKernel : public TileKernel {
 public:
  explicit ReferenceTileKernel(WeightFormat format) : format_(format) {}

  absl::string_view name() const override { return "reference"; }
  absl::Status Prepare(int64_t) override { return absl::OkStatus(); }
  size_t scratch_bytes() const override { return 0; }

  void Multiply(int m, int64_t k, const void* a, const std::byte* b, float* c,
                std::byte*) const override {
    for (int row = 0; row < m; ++row) {
      const std::byte* numbers = static_cast<const std::byte*>(a) + row * RowBytes(format_, k);
      for (int n = 0; n < kBlockColumns; ++n) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i)
          sum += Activation(format_, numbers, i) * Weight(format_, k, b, i, n);
        c[row * kBlockColumns + n] = static_cast<float>(sum);
      }
    }
  }

 private:
  const WeightFormat format_;
};

void QuantizeRow(const float* x, int64_t k, int64_t padded_k, bool group_sums, std::byte* row) {
  double low = 0;
  double high = 0;
  bool finite = true;
  for (int64_t i = 0; i < k; ++i) {
    low = std::min(low, double{x[i]});
    high = std::max(high, double{x[i]});
    finite = finite && std::isfinite(x[i]);
  }
  const double scale = finite && high - low >= 1e-30 ? (high - low) / 255 : 0;
  QuantizedRowHeader header = {static_cast<float>(scale), 0};
  if (scale > 0) header.zero_point = static_cast<int32_t>(std::nearbyint(-low / scale));
  if (!finite) header.scale = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(row, &header, sizeof(header));
  std::byte* numbers = row + kQuantizedRowHeaderBytes;
  for (int64_t i = 0; i < padded_k; ++i) {
    const double level = i < k && scale > 0 ? std::nearbyint(x[i] / scale) : 0;
    numbers[i] = static_cast<std::byte>(std::clamp(level + header.zero_point, 0.0, 255.0));
  }
  for (int64_t g = 0; group_sums && g < padded_k / kQuantGroup; ++g) {
    int32_t sum = 0;
    for (int64_t i = 0; i < kQuantGroup; ++i)
      sum -= 8 * static_cast<int>(numbers[g * kQuantGroup + i]);
    std::memcpy(numbers + padded_k + 4 * g, &sum, sizeof(sum));
  }
}

void MultiplyInt8(int m, int64_t k, const std::byte* a, int64_t, const std::byte* block, float* c) {
  ReferenceTileKernel(WeightFormat::kInt8).Multiply(m, k, a, block, c, nullptr);
}
void MultiplyInt4(int m, int64_t k, const std::byte* a, int64_t, const std::byte* block, float* c) {
  ReferenceTileKernel(WeightFormat::kInt4).Multiply(m, k, a, block, c, nullptr);
}

void FinishInt8(int m, int64_t k, const std::byte* a, int64_t row_bytes, const std::byte* block,
                float* c) {
  const std::byte* tail = block + k * kBlockColumns;
  for (int row = 0; row < m; ++row) {
    QuantizedRowHeader header;
    std::memcpy(&header, a + row * row_bytes, sizeof(header));
    for (int n = 0; n < kBlockColumns; ++n) {
      float& to = c[row * kBlockColumns + n];
      int32_t sum;
      std::memcpy(&sum, tail + 4 * (kBlockColumns + n), sizeof(sum));
      const int64_t dot = int64_t{std::bit_cast<int32_t>(to)} - int64_t{header.zero_point} * sum;
      to = static_cast<float>(static_cast<double>(dot) * header.scale *
                              LoadElement(ElementType::kF32, tail, n));
    }
  }
}

void PackInt8Group(const float* w, const float* inverse_scales, int32_t* sums, std::byte* to) {
  for (int64_t k = 0; k < kQuantGroup; ++k) {
    for (int n = 0; n < kBlockColumns; ++n) {
      const float level = std::nearbyint(w[k * kBlockColumns + n] * inverse_scales[n]);
      const int q = std::isfinite(level) ? static_cast<int>(level) : 0;
      sums[n] += q;
      to[(k / 4 * kBlockColumns + n) * 4 + k % 4] = static_cast<std::byte>(q);
    }
  }
}

// The level of -8 to 7 nearest to w / scale.
double Int4Level(double w, double scale) {
  return scale == 0 ? 0 : std::clamp(std::nearbyint(w / scale), -8.0, 7.0);
}

// Of the scales that map the largest weight to a level of 6.5 to 10, with either sign, the best.
uint16_t Int4Scale(const float* w) {
  double largest = 0;
  for (int64_t k = 0; k < kQuantGroup; ++k) {
    const double v = w[k * kBlockColumns];
    if (!std::isfinite(v)) return Bf16FromFloat(std::numeric_limits<float>::quiet_NaN());
    if (std::abs(v) > std::abs(largest)) largest = v;
  }
  if (largest == 0) return 0;
  uint16_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (double level = 6.5; level <= 10; level += 1.0 / 64) {
    for (const double sign : {-1.0, 1.0}) {
      const uint16_t stored = Bf16FromFloat(static_cast<float>(largest / (sign * level)));
      double error = 0;
      for (int64_t k = 0; k < kQuantGroup; ++k) {
        const double v = w[k * kBlockColumns];
        const double difference = v - FloatFromBf16(stored) * Int4Level(v, FloatFromBf16(stored));
        error += difference * difference;
      }
      if (error < least) {
        least = error;
        best = stored;
      }
    }
  }
  return best;
}

void PackInt4Group(const float* w, float* sums, std::byte* to) {
  std::memset(to, 0, kInt4GroupBytes);
  for (int n = 0; n < kBlockColumns; ++n) {
    const uint16_t stored = Int4Scale(w + n);
    std::memcpy(to + 2 * n, &stored, sizeof(stored));
    const double scale = FloatFromBf16(stored);
    double sum = 0;
    for (int64_t k = 0; k < kQuantGroup; ++k) {
      const double level = std::isnan(scale) ? 0 : Int4Level(w[k * kBlockColumns + n], scale);
      sum += level * scale;
      std::byte& byte = to[2 * kBlockColumns + (k / 8 * kBlockColumns + n) * 4 + k % 4];
      byte |= static_cast<std::byte>(static_cast<int>(level) + 8) << (k % 8 < 4 ? 0 : 4);
    }
    sums[n] += static_cast<float>(sum);
  }
}

float Dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return static_cast<float>(sum);
}

void MultiplyF32(int m, int64_t k, const float* a, const float* b, float* c) {
  ReferenceTileKernel(WeightFormat::kF32)
      .Multiply(m, k, a, reinterpret_cast<const std::byte*>(b), c, nullptr);
}

void RmsNorm(const float* x, const float* weight, float eps, float* y, int64_t n) {
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += double{x[i]} * x[i];
  const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] * scale * weight[i]);
}

void SiluMul(const float* gate, const float* up, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    y[i] = static_cast<float>(gate[i] / (1 + std::exp(-double{gate[i]})) * up[i]);
  }
}

void SoftmaxInPlace(float* x, int64_t n) {
  const double max = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - max);
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(std::exp(x[i] - max) / sum);
}

void AddScaled(float scale, const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += scale * x[i];
}

void AddRows(const float* x, int64_t rows, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int64_t row = 0; row < rows; ++row) sum += x[row * n + i];
    y[i] += static_cast<float>(sum);
  }
}

void Scale(float scale, const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = scale * x[i];
}

void Rotate(float* x, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i];
    const float b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}

void TurnBf16(const std::byte* const* rows, uint16_t* pairs) {
  for (int n = 0; n < 32; ++n) {
    for (int k = 0; k < 32; ++k)
      std::memcpy(pairs + 2 * (k / 2 * 32 + n) + k % 2, rows[n] + 2 * k, sizeof(uint16_t));
  }
}

void WidenBf16Pairs(const uint16_t* pairs, float* tile) {
  for (int k = 0; k < 32; ++k) {
    for (int n = 0; n < 32; ++n)
      tile[k * 32 + n] = FloatFromBf16(pairs[2 * (k / 2 * 32 + n) + k % 2]);
  }
}

uint16_t LargestHalf(const std::byte* x, int64_t n) {
  int largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bits;
    std::memcpy(&bits, x + 2 * i, sizeof(bits));
    largest = std::max(largest, bits & 0x7fff);
  }
  return static_cast<uint16_t>(largest);
}

void ToBf16(const float* x, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = Bf16FromFloat(x[i]);
}

void FromBf16(const uint16_t* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = FloatFromBf16(x[i]);
}

void FromF16(const uint16_t* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = FloatFromF16(x[i]);
}

float MaxOf(const float* x, int64_t n) {
  float max = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] > max) max = x[i];
  }
  return max;
}

int64_t ArgMax(const float* x, int64_t n) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; ++i) {
    if (x[i] > x[best] || (std::isnan(x[best]) && !std::isnan(x[i]))) best = i;
  }
  return best;
}

float ExpSum(const float* x, float shift, float scale, float least, float* y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double e = std::exp((double{x[i]} - shift) * scale);
    y[i] = e >= least ? static_cast<float>(e) : 0;
    sum += y[i];
  }
  return static_cast<float>(sum);
}

}  // namespace

void Matmul(absl::Span<const float> x, const SourceView& w, absl::Span<float> y) {
  const int64_t m = static_cast<int64_t>(x.size()) / w.cols;
  CHECK(static_cast<int64_t>(y.size()) == m * w.rows);
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t n = 0; n < w.rows; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < w.cols; ++k)
        sum += double{x[row * w.cols + k]} * LoadElement(w.type, w.data, n * w.cols + k);
      y[row * w.rows + n] = static_cast<float>(sum);
    }
  }
}

std::unique_ptr<TileKernel> MakeTileKernel(WeightFormat format) {
  return std::make_unique<ReferenceTileKernel>(format);
}

const VectorOps& ReferenceVectorOps() {
  static const VectorOps ops = {
      "reference", Dot,     MultiplyF32, RmsNorm,  SiluMul,        SoftmaxInPlace, AddScaled,
      AddRows,     Scale,   Rotate,      TurnBf16, WidenBf16Pairs, LargestHalf,    ToBf16,
      FromBf16,    FromF16, MaxOf,       ArgMax,   ExpSum};
  return ops;
}

const QuantizedOps& ReferenceQuantizedOps() {
  static const QuantizedOps ops = {"reference", QuantizeRow,   MultiplyInt8, MultiplyInt4,
                                   FinishInt8,  PackInt8Group, PackInt4Group};
  return ops;
}

void Softmax(absl::Span<float> x) { SoftmaxInPlace(x.data(), static_cast<int64_t>(x.size())); }

std::vector<int32_t> TopK(absl::Span<const float> probabilities, int k) {
  std::vector<int32_t> ids(probabilities.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return probabilities[a] > probabilities[b]; });
  ids.resize(k);
  return ids;
}

}  // namespace sluice::kernels::reference
