#include "kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "kernels/packed_matrix.h"

namespace sluice::kernels::reference {
namespace {

class ReferenceTileKernel : public TileKernel {
 public:
  explicit ReferenceTileKernel(WeightFormat format) : format_(format) {}

  absl::string_view name() const override { return "reference"; }
  absl::Status Prepare(int64_t) override { return absl::OkStatus(); }
  size_t scratch_bytes() const override { return 0; }

  void Multiply(int m, int64_t k, const void* a, const std::byte* b, float* c,
                std::byte*) const override {
    const int64_t stride = PaddedK(format_, k);
    for (int row = 0; row < m; ++row) {
      for (int n = 0; n < kBlockColumns; ++n) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) sum += double{A(a, row * stride + i)} * B(b, i, n);
        c[row * kBlockColumns + n] = static_cast<float>(sum);
      }
    }
  }

 private:
  float A(const void* a, int64_t index) const {
    return format_ == WeightFormat::kF32 ? static_cast<const float*>(a)[index]
                                         : FloatFromBf16(static_cast<const uint16_t*>(a)[index]);
  }
  float B(const std::byte* b, int64_t k, int n) const {
    return format_ == WeightFormat::kF32
               ? LoadElement(ElementType::kF32, b, k * kBlockColumns + n)
               : LoadElement(ElementType::kBf16, b, (k / 2 * kBlockColumns + n) * 2 + k % 2);
  }

  const WeightFormat format_;
};

float Dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return static_cast<float>(sum);
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

void ToBf16(const float* x, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = Bf16FromFloat(x[i]);
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
  static const VectorOps ops = {"reference", Dot,   RmsNorm, SiluMul, SoftmaxInPlace,
                                AddScaled,   Scale, Rotate,  ToBf16};
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
