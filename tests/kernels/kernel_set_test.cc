#include "kernels/kernel_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>

#include "kernels/onednn_brgemm.h"
#include "test_kernels.h"

namespace sluice::kernels {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

// Which implementation each tier must lead to, by name.
TEST(KernelSetTest, RunsWhatTheTierPromises) {
  const KernelSet& kernels = TestKernels();
  const OneDnnIsa isa = GetOneDnnIsa();
  const std::string tier = Tier();
  std::string matmul = "onednn_brgemm_f32";
  std::string vector = isa.avx512 ? "avx512" : "avx2";
  std::string attention = isa.avx512 && isa.bf16 ? "avx512_bf16" : vector;
  bool bf16 = isa.bf16;
  if (tier == "reference") {
    matmul = vector = attention = "reference";
    bf16 = true;
  } else if (tier == "avx2") {
    vector = attention = "avx2";
    bf16 = false;
  } else if (tier == "avx512") {
    vector = attention = "avx512";
    bf16 = false;
  } else if (tier == "avx512_bf16") {
    vector = "avx512";
    attention = "avx512_bf16";
    bf16 = true;
  }
  EXPECT_EQ(kernels.f32->name(), matmul);
  EXPECT_EQ(kernels.vector->name, vector);
  EXPECT_THAT(kernels.report, Contains("matmul f32: " + matmul));
  EXPECT_THAT(kernels.report, Contains("vector: " + vector));
  EXPECT_EQ(kernels.attention->name, attention);
  EXPECT_THAT(kernels.report, Contains("attention: " + attention));
  ASSERT_EQ(kernels.bf16 != nullptr, bf16);
  if (bf16) {
    EXPECT_EQ(kernels.bf16->name(), tier == "reference" ? "reference" : "onednn_brgemm_bf16");
  }
}

TEST(KernelSetTest, OnednnsEffectiveIsaIsObeyed) {
  const char* max = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (max == nullptr || std::string(max) != "AVX2") GTEST_SKIP() << "run with that variable only";
  EXPECT_EQ(GetOneDnnIsa().name, "AVX2");
  EXPECT_STREQ(TestKernels().vector->name, "avx2");
  EXPECT_STREQ(TestKernels().attention->name, "avx2");
  EXPECT_FALSE(SelectKernels(WeightFormat::kF32, "avx512").ok());
}

TEST(KernelSetTest, DeclinedKernelsAreReportedWithAReason) {
  const auto reference = SelectKernels(WeightFormat::kBf16, "reference");
  ASSERT_TRUE(reference.ok()) << reference.status();
  EXPECT_THAT(reference->report,
              Contains("matmul bf16: onednn_brgemm_bf16 declined: SLUICE_KERNELS=reference"));
  EXPECT_THAT(reference->report, Contains("matmul bf16: reference"));
  EXPECT_THAT(reference->report,
              Contains("attention: avx512_bf16 declined: SLUICE_KERNELS=reference"));
}

TEST(KernelSetTest, Bf16WithoutInstructionsForItIsAnErrorThatNamesTheWayOut) {
  TestKernels();
  if (GetOneDnnIsa().bf16) GTEST_SKIP() << "there are bf16 kernels here";
  const absl::Status status = SelectKernels(WeightFormat::kBf16, "").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--weights=f32"));
}

TEST(KernelSetTest, UnknownAndUnsupportedTiersAreErrors) {
  TestKernels();
  const absl::Status unknown = SelectKernels(WeightFormat::kF32, "avx3").status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("'avx3'"));
  if (!GetOneDnnIsa().amx) {
    const absl::Status amx = SelectKernels(WeightFormat::kF32, "amx").status();
    EXPECT_EQ(amx.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(amx.message()), HasSubstr("SLUICE_KERNELS=amx"));
  }
}

}  // namespace
}  // namespace sluice::kernels
