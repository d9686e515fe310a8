#include "kernels/kernel_set.h"

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "kernels/onednn_brgemm.h"
#include "kernels/quantized_tile_kernel.h"
#include "kernels/reference.h"
#include "kernels/vector_tile_kernel.h"

namespace sluice::kernels {
namespace {

struct Tier {
  absl::string_view name;
  bool OneDnnIsa::*needs;  // once the limit is set
  std::optional<IsaLimit> limit;
};

constexpr absl::string_view kReference = "reference";
const Tier kTiers[] = {
    {"avx2", &OneDnnIsa::avx2, IsaLimit::kAvx2},
    {"avx512", &OneDnnIsa::avx512, IsaLimit::kAvx512},
    {"avx512_vnni", &OneDnnIsa::avx512_vnni, IsaLimit::kAvx512Vnni},
    {"avx512_bf16", &OneDnnIsa::bf16, IsaLimit::kAvx512Bf16},
    {"amx", &OneDnnIsa::amx, std::nullopt},
};

// Limits oneDNN to the tier.
absl::Status ForceTier(absl::string_view name) {
  for (const Tier& tier : kTiers) {
    if (tier.name != name) continue;
    // First the limit, then the question: oneDNN takes no limit once it has been asked.
    if (tier.limit.has_value()) RETURN_IF_ERROR(LimitOneDnnIsa(*tier.limit));
    const OneDnnIsa isa = GetOneDnnIsa();
    if (isa.*tier.needs) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "SLUICE_KERNELS=", name, " is not supported here: oneDNN may use ", isa.name, " at most"));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "SLUICE_KERNELS is '", name,
      "', but the tiers are reference, avx2, avx512, avx512_vnni, avx512_bf16 and amx"));
}

// One entry of an ordered list: a table of functions, and what keeps it from being used.
template <typename Ops>
struct Candidate {
  absl::string_view name;
  const Ops* ops;
  bool supported;
  absl::string_view needs;
};

template <typename Ops, size_t n>
const Ops& SelectOps(absl::string_view kind, const Candidate<Ops> (&candidates)[n],
                     const Ops& reference, absl::string_view tier, absl::string_view isa,
                     std::vector<std::string>& report) {
  for (const Candidate<Ops>& candidate : candidates) {
    std::string declined;
    if (tier == kReference) {
      declined = "SLUICE_KERNELS=reference";
    } else if (candidate.ops == nullptr) {
      declined = "not built in";
    } else if (!candidate.supported) {
      declined = absl::StrCat("needs ", candidate.needs, ", and the kernels may use ", isa);
    } else {
      report.push_back(absl::StrCat(kind, ": ", candidate.name));
      return *candidate.ops;
    }
    report.push_back(absl::StrCat(kind, ": ", candidate.name, " declined: ", declined));
  }
  report.push_back(absl::StrCat(kind, ": reference"));
  return reference;
}

const VectorOps& SelectVectorOps(absl::string_view tier, const OneDnnIsa& isa,
                                 std::vector<std::string>& report) {
  const Candidate<VectorOps> candidates[] = {
      {"avx512", Avx512VectorOps(), isa.avx512, "AVX512_CORE"},
      {"avx2", Avx2VectorOps(), isa.avx2 && __builtin_cpu_supports("fma"), "AVX2 and FMA"},
  };
  return SelectOps("vector", candidates, reference::ReferenceVectorOps(), tier, isa.name, report);
}

const QuantizedOps& SelectQuantizedOps(absl::string_view tier, const OneDnnIsa& isa,
                                       std::vector<std::string>& report) {
  const Candidate<QuantizedOps> candidates[] = {
      {"avx512_vnni", Avx512VnniQuantizedOps(), isa.avx512_vnni, "AVX512_CORE_VNNI"},
      {"avx2", Avx2QuantizedOps(), isa.avx2 && __builtin_cpu_supports("fma"), "AVX2 and FMA"},
  };
  return SelectOps("quantized", candidates, reference::ReferenceQuantizedOps(), tier, isa.name,
                   report);
}

absl::StatusOr<std::unique_ptr<TileKernel>> SelectOneDnn(WeightFormat format,
                                                         absl::string_view tier,
                                                         std::vector<std::string>& report) {
  const std::string label = absl::StrCat("matmul ", NameOf(format), ": ");
  std::unique_ptr<TileKernel> kernel;
  absl::Status declined = absl::OkStatus();
  if (tier == kReference) {
    declined = absl::FailedPreconditionError("SLUICE_KERNELS=reference");
  } else {
    absl::StatusOr<std::unique_ptr<TileKernel>> onednn = MakeOneDnnTileKernel(format);
    if (onednn.ok()) {
      kernel = *std::move(onednn);
    } else {
      declined = onednn.status();
    }
  }
  if (kernel == nullptr) {
    report.push_back(
        absl::StrCat(label, "onednn_brgemm_", NameOf(format), " declined: ", declined.message()));
    // A hundred times slower is not what anyone means who does not say so.
    if (tier != kReference) {
      return absl::FailedPreconditionError(
          absl::StrCat("there is no fast ", NameOf(format), " matmul here: onednn_brgemm_",
                       NameOf(format), " ", declined.message(), "; use ",
                       format == WeightFormat::kBf16 ? "--weights=f32, int8 or int4, or " : "",
                       "SLUICE_KERNELS=reference for a slow trial"));
    }
    kernel = reference::MakeTileKernel(format);
  }
  report.push_back(absl::StrCat(label, kernel->name()));
  return kernel;
}

// oneDNN's f32 kernels are no faster for the few columns of a router, need preparation, and
// allocate a short list in each call.
std::unique_ptr<TileKernel> SelectRouterMatmul(const VectorOps& ops,
                                               std::vector<std::string>& report) {
  std::unique_ptr<TileKernel> kernel = MakeVectorTileKernel(ops);
  report.push_back("matmul f32: onednn_brgemm_f32 declined: allocates in each call");
  report.push_back(absl::StrCat("matmul f32: ", kernel->name(), " (router)"));
  return kernel;
}

// oneDNN's int8 kernels beat these with AMX, and where these have no VNNI; on AVX512_VNNI they
// lose, as they do not fetch ahead (docs/decisions/int8_kernels.md).
std::unique_ptr<TileKernel> SelectOneDnnInt8(const QuantizedOps& ops, const OneDnnIsa& isa,
                                             std::vector<std::string>& report) {
  std::string declined;
  if (isa.avx512_vnni && !isa.amx) {
    declined = "slower than avx512_vnni without AMX";
  } else {
    absl::StatusOr<std::unique_ptr<TileKernel>> onednn =
        MakeOneDnnTileKernel(WeightFormat::kInt8, &ops);
    if (onednn.ok()) return *std::move(onednn);
    declined = std::string(onednn.status().message());
  }
  report.push_back(absl::StrCat("matmul int8: onednn_brgemm_int8 declined: ", declined));
  return nullptr;
}

absl::StatusOr<std::unique_ptr<TileKernel>> SelectMatmul(WeightFormat format,
                                                         const QuantizedOps* ops,
                                                         absl::string_view tier,
                                                         const OneDnnIsa& isa,
                                                         std::vector<std::string>& report) {
  if (!IsQuantized(format)) return SelectOneDnn(format, tier, report);
  std::unique_ptr<TileKernel> kernel;
  if (tier == kReference) {
    kernel = reference::MakeTileKernel(format);
  } else if (ops == &reference::ReferenceQuantizedOps()) {
    return absl::FailedPreconditionError(
        absl::StrCat("there is no fast ", NameOf(format),
                     " matmul here: it needs AVX2 and FMA, and the kernels may use ", isa.name,
                     "; use SLUICE_KERNELS=reference for a slow trial"));
  } else {
    kernel = MakeQuantizedTileKernel(
        format, *ops,
        format == WeightFormat::kInt8 ? SelectOneDnnInt8(*ops, isa, report) : nullptr);
  }
  if (format == WeightFormat::kInt4 && isa.amx) {
    report.push_back("matmul int4: AMX declined: a scale for every 32 steps of k ends its sums");
  }
  report.push_back(absl::StrCat("matmul ", NameOf(format), ": ", kernel->name()));
  return kernel;
}

const AttentionKernel& SelectAttention(absl::string_view tier, const OneDnnIsa& isa,
                                       std::vector<std::string>& report) {
  const Candidate<AttentionKernel> candidates[] = {
      {"avx512_bf16", Avx512Bf16Attention(), isa.avx512 && isa.bf16, "AVX512_CORE_BF16"},
      {"avx512", Avx512Attention(), isa.avx512, "AVX512_CORE"},
      {"avx2", Avx2Attention(), isa.avx2 && __builtin_cpu_supports("fma"), "AVX2 and FMA"},
  };
  return SelectOps("attention", candidates, reference::ReferenceAttention(), tier, isa.name,
                   report);
}

}  // namespace

absl::StatusOr<KernelSet> SelectKernels(WeightFormat format, absl::string_view tier) {
  if (!tier.empty() && tier != kReference) RETURN_IF_ERROR(ForceTier(tier));
  const OneDnnIsa isa = GetOneDnnIsa();
  KernelSet set;
  set.format = format;
  set.isa = tier == kReference ? std::string(kReference) : isa.name;
  set.vector = &SelectVectorOps(tier, isa, set.report);
  set.attention = &SelectAttention(tier, isa, set.report);
  if (IsQuantized(format)) set.quantized = &SelectQuantizedOps(tier, isa, set.report);
  if (format == WeightFormat::kF32 || tier == kReference) {
    ASSIGN_OR_RETURN(set.f32, SelectOneDnn(WeightFormat::kF32, tier, set.report));
  } else {
    set.f32 = SelectRouterMatmul(*set.vector, set.report);
  }
  if (format != WeightFormat::kF32) {
    ASSIGN_OR_RETURN(set.weights, SelectMatmul(format, set.quantized, tier, isa, set.report));
  }
  return set;
}

absl::StatusOr<KernelSet> SelectKernels(WeightFormat format) {
  const char* tier = std::getenv("SLUICE_KERNELS");
  return SelectKernels(format, tier == nullptr ? "" : tier);
}

WeightFormat BestFormat() {
  const absl::Status bf16 = SelectKernels(WeightFormat::kBf16).status();
  if (bf16.ok()) return WeightFormat::kBf16;
  base::Log().info("weights format=f32, as bf16 is declined: {}", std::string(bf16.message()));
  return WeightFormat::kF32;
}

}  // namespace sluice::kernels
