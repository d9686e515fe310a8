#include "kernels/vector_tile_kernel.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace sluice::kernels {
namespace {

class VectorTileKernel : public TileKernel {
 public:
  explicit VectorTileKernel(const VectorOps& ops)
      : multiply_(ops.multiply_f32), name_(absl::StrCat(ops.name, "_f32")) {}

  absl::string_view name() const override { return name_; }
  absl::Status Prepare(int64_t) override { return absl::OkStatus(); }
  size_t scratch_bytes() const override { return 0; }

  void Multiply(int m, int64_t k, const void* a, const std::byte* b, float* c,
                std::byte*) const override {
    multiply_(m, k, static_cast<const float*>(a), reinterpret_cast<const float*>(b), c);
  }

 private:
  void (*const multiply_)(int, int64_t, const float*, const float*, float*);
  const std::string name_;
};

}  // namespace

std::unique_ptr<TileKernel> MakeVectorTileKernel(const VectorOps& ops) {
  return std::make_unique<VectorTileKernel>(ops);
}

}  // namespace sluice::kernels
