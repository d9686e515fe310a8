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
#include "kernels/reference.h"

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
  return absl::InvalidArgumentError(
      absl::StrCat("SLUICE_KERNELS is '", name,
                   "', but the tiers are reference, avx2, avx512, avx512_bf16 and amx"));
}

absl::string_view FormatName(WeightFormat format) {
  return format == WeightFormat::kF32 ? "f32" : "bf16";
}

absl::StatusOr<std::unique_ptr<TileKernel>> SelectMatmul(WeightFormat format,
                                                         absl::string_view tier,
                                                         std::vector<std::string>& report) {
  const std::string label = absl::StrCat("matmul ", FormatName(format), ": ");
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
    report.push_back(absl::StrCat(label, "onednn_brgemm_", FormatName(format),
                                  " declined: ", declined.message()));
    // A hundred times slower is not what anyone means who does not say so.
    if (tier != kReference) {
      return absl::FailedPreconditionError(
          absl::StrCat("there is no fast ", FormatName(format), " matmul here: onednn_brgemm_",
                       FormatName(format), " ", declined.message(), "; use ",
                       format == WeightFormat::kBf16 ? "--weights=f32, or " : "",
                       "SLUICE_KERNELS=reference for a slow trial"));
    }
    kernel = reference::MakeTileKernel(format);
  }
  report.push_back(absl::StrCat(label, kernel->name()));
  return kernel;
}

// One of the implementations of a table of functions, best first.
template <typename Table>
struct Candidate {
  absl::string_view name;
  const Table* table;
  bool supported;
  absl::string_view needs;
};

// The first that is fit to run, or `reference`.
template <typename Table>
const Table& SelectTable(absl::string_view label, absl::Span<const Candidate<Table>> candidates,
                         const Table& reference, absl::string_view tier, const OneDnnIsa& isa,
                         std::vector<std::string>& report) {
  for (const Candidate<Table>& candidate : candidates) {
    std::string declined;
    if (tier == kReference) {
      declined = "SLUICE_KERNELS=reference";
    } else if (candidate.table == nullptr) {
      declined = "not built in";
    } else if (!candidate.supported) {
      declined = absl::StrCat("needs ", candidate.needs, ", and the kernels may use ", isa.name);
    } else {
      report.push_back(absl::StrCat(label, ": ", candidate.name));
      return *candidate.table;
    }
    report.push_back(absl::StrCat(label, ": ", candidate.name, " declined: ", declined));
  }
  report.push_back(absl::StrCat(label, ": reference"));
  return reference;
}

const VectorOps& SelectVectorOps(absl::string_view tier, const OneDnnIsa& isa,
                                 std::vector<std::string>& report) {
  const Candidate<VectorOps> candidates[] = {
      {"avx512", Avx512VectorOps(), isa.avx512, "AVX512_CORE"},
      {"avx2", Avx2VectorOps(), isa.avx2 && __builtin_cpu_supports("fma"), "AVX2 and FMA"},
  };
  return SelectTable<VectorOps>("vector", candidates, reference::ReferenceVectorOps(), tier, isa,
                                report);
}

const AttentionKernel& SelectAttention(absl::string_view tier, const OneDnnIsa& isa,
                                       std::vector<std::string>& report) {
  const Candidate<AttentionKernel> candidates[] = {
      {"avx512_bf16", Avx512Bf16Attention(), isa.avx512 && isa.bf16, "AVX512_CORE_BF16"},
      {"avx512", Avx512Attention(), isa.avx512, "AVX512_CORE"},
      {"avx2", Avx2Attention(), isa.avx2 && __builtin_cpu_supports("fma"), "AVX2 and FMA"},
  };
  return SelectTable<AttentionKernel>("attention", candidates, reference::ReferenceAttention(),
                                      tier, isa, report);
}

}  // namespace

absl::StatusOr<KernelSet> SelectKernels(WeightFormat format, absl::string_view tier) {
  if (!tier.empty() && tier != kReference) RETURN_IF_ERROR(ForceTier(tier));
  const OneDnnIsa isa = GetOneDnnIsa();
  KernelSet set;
  set.isa = tier == kReference ? std::string(kReference) : isa.name;
  set.vector = &SelectVectorOps(tier, isa, set.report);
  set.attention = &SelectAttention(tier, isa, set.report);
  ASSIGN_OR_RETURN(set.f32, SelectMatmul(WeightFormat::kF32, tier, set.report));
  if (format == WeightFormat::kBf16) {
    ASSIGN_OR_RETURN(set.bf16, SelectMatmul(WeightFormat::kBf16, tier, set.report));
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
