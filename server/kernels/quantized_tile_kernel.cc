#include "kernels/quantized_tile_kernel.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "kernels/activation_rows.h"
#include "kernels/packed_matrix.h"

namespace sluice::kernels {
namespace {

// Rows up to which the weights pass through registers once.
constexpr int kFewRows = 8;

class QuantizedTileKernel : public TileKernel {
 public:
  QuantizedTileKernel(WeightFormat format, const QuantizedOps& ops,
                      std::unique_ptr<TileKernel> many_rows)
      : format_(format),
        multiply_(format == WeightFormat::kInt8 ? ops.multiply_int8 : ops.multiply_int4),
        many_rows_(std::move(many_rows)),
        name_(absl::StrCat(ops.name, "_", NameOf(format))) {
    CHECK(IsQuantized(format));
    if (many_rows_ != nullptr) absl::StrAppend(&name_, " and ", many_rows_->name());
  }

  absl::string_view name() const override { return name_; }
  absl::Status Prepare(int64_t k) override {
    if (format_ == WeightFormat::kInt8 && k > kMaxInt8K) {
      return absl::InvalidArgumentError(absl::StrCat("int8 weights with ", k, " inputs: sums hold ",
                                                     kMaxInt8K, " at most; use another format"));
    }
    return many_rows_ == nullptr ? absl::OkStatus() : many_rows_->Prepare(k);
  }
  size_t scratch_bytes() const override {
    return many_rows_ == nullptr ? 0 : many_rows_->scratch_bytes();
  }

  void Multiply(int m, int64_t k, const void* a, const std::byte* b, float* c,
                std::byte* scratch) const override {
    if (many_rows_ != nullptr && m > kFewRows) return many_rows_->Multiply(m, k, a, b, c, scratch);
    multiply_(m, PaddedK(format_, k), static_cast<const std::byte*>(a), RowBytes(format_, k), b, c);
  }

 private:
  const WeightFormat format_;
  void (*const multiply_)(int, int64_t, const std::byte*, int64_t, const std::byte*, float*);
  const std::unique_ptr<TileKernel> many_rows_;
  std::string name_;
};

}  // namespace

std::unique_ptr<TileKernel> MakeQuantizedTileKernel(WeightFormat format, const QuantizedOps& ops,
                                                    std::unique_ptr<TileKernel> many_rows) {
  return std::make_unique<QuantizedTileKernel>(format, ops, std::move(many_rows));
}

}  // namespace sluice::kernels
