#include "kernels/onednn_brgemm.h"

#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_ukernel.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "kernels/activation_rows.h"
#include "kernels/aligned_buffer.h"
#include "kernels/packed_matrix.h"

// libgomp's, declared here because not every compiler that builds this has an omp.h of its own.
extern "C" void omp_set_num_threads(int num_threads);

namespace sluice::kernels {
namespace {

// `isa` values are sets of bits: a larger instruction set contains the smaller ones.
bool Contains(int isa, dnnl_cpu_isa_t part) { return (isa & part) == part; }

absl::string_view IsaName(int isa) {
  constexpr std::pair<dnnl_cpu_isa_t, absl::string_view> kNames[] = {
      {dnnl_cpu_isa_avx512_core_amx_fp16, "AVX512_CORE_AMX_FP16"},
      {dnnl_cpu_isa_avx512_core_amx, "AVX512_CORE_AMX"},
      {dnnl_cpu_isa_avx512_core_fp16, "AVX512_CORE_FP16"},
      {dnnl_cpu_isa_avx512_core_bf16, "AVX512_CORE_BF16"},
      {dnnl_cpu_isa_avx512_core_vnni, "AVX512_CORE_VNNI"},
      {dnnl_cpu_isa_avx512_core, "AVX512_CORE"},
      {dnnl_cpu_isa_avx2_vnni_2, "AVX2_VNNI_2"},
      {dnnl_cpu_isa_avx2_vnni, "AVX2_VNNI"},
      {dnnl_cpu_isa_avx2, "AVX2"},
      {dnnl_cpu_isa_avx, "AVX"},
      {dnnl_cpu_isa_sse41, "SSE41"},
  };
  for (const auto& [part, name] : kNames) {
    if (Contains(isa, part)) return name;
  }
  return "none";
}

dnnl_data_type_t SourceType(WeightFormat format) {
  return format == WeightFormat::kF32    ? dnnl_f32
         : format == WeightFormat::kBf16 ? dnnl_bf16
                                         : dnnl_u8;
}
dnnl_data_type_t WeightType(WeightFormat format) {
  return format == WeightFormat::kInt8 ? dnnl_s8 : SourceType(format);
}

// Where the numbers of a row begin.
int64_t NumbersOffset(WeightFormat format) {
  return IsQuantized(format) ? kQuantizedRowHeaderBytes : 0;
}

// One JIT kernel: c [m, 32] = a [m, K] b [K, 32], with c in i32 for int8, otherwise in f32.
class Brgemm {
 public:
  Brgemm() = default;
  Brgemm(Brgemm&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), number_(other.number_) {}
  Brgemm& operator=(Brgemm&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(number_, other.number_);
    return *this;
  }
  ~Brgemm() {
    if (handle_ != nullptr) dnnl_brgemm_destroy(handle_);
  }

  static absl::StatusOr<Brgemm> Create(WeightFormat format, int m, int64_t k) {
    const dnnl_data_type_t source = SourceType(format);
    const int64_t lda = RowBytes(format, k) / static_cast<int64_t>(dnnl_data_type_size(source));
    Brgemm brgemm;
    dnnl_status_t status = dnnl_brgemm_create(&brgemm.handle_, m, kBlockColumns, k,
                                              /*batch_size=*/1, lda, /*ldb=*/kBlockColumns,
                                              /*ldc=*/kBlockColumns, source, WeightType(format),
                                              format == WeightFormat::kInt8 ? dnnl_s32 : dnnl_f32);
    if (status == dnnl_success) status = dnnl_brgemm_finalize(brgemm.handle_);
    if (status == dnnl_success) status = dnnl_brgemm_generate(brgemm.handle_);
    if (status != dnnl_success) {
      return absl::InternalError(absl::StrCat("oneDNN makes no brgemm kernel for M = ", m,
                                              ", N = ", kBlockColumns, ", K = ", k, " (status ",
                                              static_cast<int>(status), ")"));
    }
    return brgemm;
  }

  size_t scratch_bytes() const {
    size_t bytes = 0;
    CHECK(dnnl_brgemm_get_scratchpad_size(handle_, &bytes) == dnnl_success);
    return bytes;
  }

  void Run(const void* a, const std::byte* b, float* c, std::byte* scratch) const;

 private:
  static uint64_t NextNumber() {
    static std::atomic<uint64_t> last{0};
    return ++last;
  }

  dnnl_brgemm_t handle_ = nullptr;
  // Never used again, as an address would be.
  uint64_t number_ = NextNumber();
};

// What the thread's tile registers (AMX) are set up for; given back when the thread ends.
struct HwContext {
  uint64_t kernel = 0;
  ~HwContext() {
    if (kernel != 0) dnnl_brgemm_release_hw_context();
  }
};
thread_local HwContext hw_context;

void Brgemm::Run(const void* a, const std::byte* b, float* c, std::byte* scratch) const {
  if (hw_context.kernel != number_) {
    CHECK(dnnl_brgemm_set_hw_context(handle_) == dnnl_success);
    hw_context.kernel = number_;
  }
  constexpr dnnl_dim_t kOffsets[2] = {0, 0};
  CHECK(dnnl_brgemm_execute(handle_, a, b, kOffsets, c, scratch) == dnnl_success);
}

class OneDnnTileKernel : public TileKernel {
 public:
  OneDnnTileKernel(WeightFormat format, const QuantizedOps* quantized)
      : format_(format),
        quantized_(quantized),
        name_(absl::StrCat("onednn_brgemm_", NameOf(format))) {}

  absl::string_view name() const override { return name_; }
  size_t scratch_bytes() const override { return scratch_bytes_; }

  absl::Status Prepare(int64_t k) override {
    const int64_t padded_k = PaddedK(format_, k);
    if (shapes_.count(padded_k) != 0) return absl::OkStatus();
    Shape shape;
    for (int m = 1; m <= kTileRows; ++m) {
      absl::StatusOr<Brgemm> kernel = Brgemm::Create(format_, m, padded_k);
      if (!kernel.ok()) return kernel.status();
      scratch_bytes_ = std::max(scratch_bytes_, kernel->scratch_bytes());
      shape[m - 1] = *std::move(kernel);
    }
    absl::Status invariant = CheckRowsAreIndependent(shape, padded_k);
    if (!invariant.ok()) return invariant;
    shapes_.emplace(padded_k, std::move(shape));
    return absl::OkStatus();
  }

  void Multiply(int m, int64_t k, const void* a, const std::byte* b, float* c,
                std::byte* scratch) const override {
    DCHECK(m >= 1 && m <= kTileRows);
    const auto shape = shapes_.find(PaddedK(format_, k));
    DCHECK(shape != shapes_.end());
    const std::byte* rows = static_cast<const std::byte*>(a);
    shape->second[m - 1].Run(rows + NumbersOffset(format_), b, c, scratch);
    if (format_ == WeightFormat::kInt8) {
      quantized_->finish_int8(m, PaddedK(format_, k), rows, RowBytes(format_, k), b, c);
    }
  }

 private:
  using Shape = std::array<Brgemm, kTileRows>;  // [m - 1]

  // That a row's result does not depend on the rows around it is a promise to every client; nothing
  // in oneDNN's documentation gives it. So each kernel must reproduce the 32-row kernel's rows.
  absl::Status CheckRowsAreIndependent(const Shape& shape, int64_t k) const {
    const int64_t row_bytes = RowBytes(format_, k);
    AlignedBuffer<std::byte> a(kTileRows * row_bytes);
    AlignedBuffer<std::byte> b(BlockBytes(format_, k));
    AlignedBuffer<float> all(kTileRows * kBlockColumns);
    AlignedBuffer<float> part(kTileRows * kBlockColumns);
    AlignedBuffer<std::byte> scratch(scratch_bytes_);
    Fill(a, 1);
    Fill(b, 2);
    shape[kTileRows - 1].Run(a.data(), b.data(), all.data(), scratch.data());
    for (int m = 1; m < kTileRows; ++m) {
      const int first = kTileRows - m;
      shape[m - 1].Run(a.data() + first * row_bytes, b.data(), part.data(), scratch.data());
      if (std::memcmp(part.data(), all.data() + first * kBlockColumns,
                      m * kBlockColumns * sizeof(float)) != 0) {
        return absl::InternalError(absl::StrCat(name(), " computes rows differently for M = ", m,
                                                " and M = ", kTileRows, " at K = ", k));
      }
    }
    return absl::OkStatus();
  }

  // Numbers between -1 and 1 (any bytes for int8) from a linear congruential generator (Numerical
  // Recipes' constants).
  void Fill(AlignedBuffer<std::byte>& buffer, uint32_t state) const {
    const size_t size = dnnl_data_type_size(SourceType(format_));
    for (size_t i = 0; i < buffer.size() / size; ++i) {
      state = state * 1664525u + 1013904223u;
      const float value = static_cast<float>(state >> 8) * 0x1p-23f - 1;
      const uint16_t half = Bf16FromFloat(value);
      const void* from = format_ == WeightFormat::kF32    ? static_cast<const void*>(&value)
                         : format_ == WeightFormat::kBf16 ? static_cast<const void*>(&half)
                                                          : &state;
      std::memcpy(buffer.data() + size * i, from, size);
    }
  }

  const WeightFormat format_;
  const QuantizedOps* const quantized_;  // for int8
  const std::string name_;
  size_t scratch_bytes_ = 0;
  // By padded K; a model has a handful.
  std::map<int64_t, Shape> shapes_;
};

}  // namespace

OneDnnIsa GetOneDnnIsa() {
  const int isa = dnnl_get_effective_cpu_isa();
  OneDnnIsa result;
  result.avx2 = Contains(isa, dnnl_cpu_isa_avx2);
  result.avx512 = Contains(isa, dnnl_cpu_isa_avx512_core);
  result.vnni =
      Contains(isa, dnnl_cpu_isa_avx512_core_vnni) || Contains(isa, dnnl_cpu_isa_avx2_vnni);
  result.avx512_vnni = Contains(isa, dnnl_cpu_isa_avx512_core_vnni);
  result.bf16 =
      Contains(isa, dnnl_cpu_isa_avx512_core_bf16) || Contains(isa, dnnl_cpu_isa_avx2_vnni_2);
  result.amx = Contains(isa, dnnl_cpu_isa_avx512_core_amx);
  result.name = std::string(IsaName(isa));
  return result;
}

absl::Status LimitOneDnnIsa(IsaLimit limit) {
  const dnnl_cpu_isa_t isa = limit == IsaLimit::kAvx2         ? dnnl_cpu_isa_avx2
                             : limit == IsaLimit::kAvx512     ? dnnl_cpu_isa_avx512_core
                             : limit == IsaLimit::kAvx512Vnni ? dnnl_cpu_isa_avx512_core_vnni
                                                              : dnnl_cpu_isa_avx512_core_bf16;
  // A limit from the environment is the user's, and stays. Otherwise setting one fails once oneDNN
  // has been used, which does not matter if the same limit has been set before.
  const bool set_by_user =
      std::getenv("ONEDNN_MAX_CPU_ISA") != nullptr || std::getenv("DNNL_MAX_CPU_ISA") != nullptr;
  if (!set_by_user) dnnl_set_max_cpu_isa(isa);
  const int effective = dnnl_get_effective_cpu_isa();
  if (Contains(isa, static_cast<dnnl_cpu_isa_t>(effective))) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("oneDNN cannot be limited to ", IsaName(isa), ": it uses ", IsaName(effective),
                   set_by_user ? ", as ONEDNN_MAX_CPU_ISA says" : " already"));
}

absl::StatusOr<std::unique_ptr<TileKernel>> MakeOneDnnTileKernel(WeightFormat format,
                                                                 const QuantizedOps* quantized) {
  const OneDnnIsa isa = GetOneDnnIsa();
  const auto needs = [&](absl::string_view what) {
    return absl::FailedPreconditionError(
        absl::StrCat("needs ", what, ", and oneDNN may use ", isa.name));
  };
  CHECK(format != WeightFormat::kInt4);
  if (format == WeightFormat::kF32 && !isa.avx2) return needs("AVX2");
  if (format == WeightFormat::kBf16 && !isa.bf16) return needs("AVX512_BF16, AVX2_VNNI_2 or AMX");
  // Below VNNI its int8 kernels add pairs of products in 16 bits, which overflow.
  if (format == WeightFormat::kInt8 && !isa.vnni) return needs("AVX512_VNNI, AVX2_VNNI or AMX");
  auto kernel = std::make_unique<OneDnnTileKernel>(format, quantized);
  // A first shape, as a trial.
  if (absl::Status status = kernel->Prepare(kBlockColumns); !status.ok()) return status;
  return std::unique_ptr<TileKernel>(std::move(kernel));
}

void InitComputeThread() {
  thread_local const bool done = [] {
    omp_set_num_threads(1);
    return true;
  }();
  static_cast<void>(done);
}

}  // namespace sluice::kernels
