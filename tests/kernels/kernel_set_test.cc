#include "kernels/kernel_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "kernels/onednn_brgemm.h"
#include "test_kernels.h"

namespace sluice::kernels {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

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
  } else if (tier == "avx512" || tier == "avx512_vnni") {
    vector = attention = "avx512";
    bf16 = false;
  } else if (tier == "avx512_bf16") {
    vector = "avx512";
    attention = "avx512_bf16";
    bf16 = true;
  }
  EXPECT_EQ(kernels.format, WeightFormat::kF32);
  EXPECT_EQ(kernels.weights, nullptr);
  EXPECT_EQ(kernels.quantized, nullptr);
  EXPECT_EQ(kernels.f32->name(), matmul);
  EXPECT_EQ(&kernels.matmul(WeightFormat::kF32), kernels.f32.get());
  EXPECT_EQ(kernels.vector->name, vector);
  EXPECT_THAT(kernels.report, Contains("matmul f32: " + matmul));
  EXPECT_THAT(kernels.report, Contains("vector: " + vector));
  EXPECT_EQ(kernels.attention->name, attention);
  EXPECT_THAT(kernels.report, Contains("attention: " + attention));
  const std::vector<WeightFormat> formats = Formats();
  ASSERT_EQ(std::count(formats.begin(), formats.end(), WeightFormat::kBf16), bf16 ? 1 : 0);
  if (bf16) {
    const KernelSet& set = TestKernels(WeightFormat::kBf16);
    const std::string name = tier == "reference" ? "reference" : "onednn_brgemm_bf16";
    EXPECT_EQ(set.matmul(WeightFormat::kBf16).name(), name);
    EXPECT_EQ(set.quantized, nullptr);
    EXPECT_THAT(set.report, Contains("matmul bf16: " + name));
  }
}

// oneDNN's f32 is not made where the router alone needs f32.
TEST(KernelSetTest, TheRouterRunsOnTheVectorOpsBesideOtherFormats) {
  for (const WeightFormat format : Formats()) {
    if (format == WeightFormat::kF32) continue;
    const KernelSet& set = TestKernels(format);
    EXPECT_EQ(&set.matmul(WeightFormat::kF32), set.f32.get());
    if (Tier() == "reference") {
      EXPECT_EQ(set.f32->name(), "reference");
      EXPECT_THAT(set.report, Contains("matmul f32: reference"));
      continue;
    }
    const std::string name = std::string(set.vector->name) + "_f32";
    EXPECT_EQ(set.f32->name(), name);
    EXPECT_THAT(set.report, Contains("matmul f32: " + name + " (router)"));
    EXPECT_THAT(set.report,
                Contains("matmul f32: onednn_brgemm_f32 declined: allocates in each call"));
  }
}

TEST(KernelSetTest, RunsTheQuantizedKernelsThatTheTierPromises) {
  TestKernels();  // limits oneDNN to the tier
  const OneDnnIsa isa = GetOneDnnIsa();
  const std::string tier = Tier();
  const bool is_reference = tier == "reference";
  std::string ops = isa.avx512_vnni ? "avx512_vnni" : "avx2";
  if (is_reference) {
    ops = "reference";
  } else if (tier == "avx2" || tier == "avx512") {
    ops = "avx2";
  } else if (!tier.empty()) {
    ops = "avx512_vnni";
  }
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    const KernelSet& set = TestKernels(format);
    EXPECT_EQ(set.format, format);
    EXPECT_STREQ(set.quantized->name, ops.c_str());
    EXPECT_THAT(set.report, Contains("quantized: " + ops));
    std::string name = is_reference ? ops : ops + "_" + NameOf(format);
    // oneDNN's is used where it has instructions that the tables' kernels do not use.
    const bool onednn = isa.amx || (isa.vnni && !isa.avx512_vnni);
    if (format == WeightFormat::kInt8 && onednn && !is_reference) name += " and onednn_brgemm_int8";
    EXPECT_EQ(set.matmul(format).name(), name);
    EXPECT_THAT(set.report, Contains(std::string("matmul ") + NameOf(format) + ": " + name));
  }
}

TEST(KernelSetTest, QuantizedKernelsAreDeclinedWithAReason) {
  const KernelSet& set = TestKernels(WeightFormat::kInt8);
  const OneDnnIsa isa = GetOneDnnIsa();
  const std::string may_use = "and the kernels may use " + isa.name;
  if (Tier() == "reference") {
    for (const char* name : {"avx512_vnni", "avx2"}) {
      EXPECT_THAT(set.report, Contains(std::string("quantized: ") + name +
                                       " declined: SLUICE_KERNELS=reference"));
    }
  } else if (!isa.avx512_vnni) {
    EXPECT_THAT(set.report,
                Contains("quantized: avx512_vnni declined: needs AVX512_CORE_VNNI, " + may_use));
    if (!isa.vnni) {
      EXPECT_THAT(set.report,
                  Contains("matmul int8: onednn_brgemm_int8 declined: needs AVX512_VNNI, "
                           "AVX2_VNNI or AMX, and oneDNN may use " +
                           isa.name));
    }
  } else if (!isa.amx) {
    EXPECT_THAT(set.report, Contains("matmul int8: onednn_brgemm_int8 declined: slower than "
                                     "avx512_vnni without AMX"));
  }
  // int4 is nobody else's.
  EXPECT_THAT(TestKernels(WeightFormat::kInt4).report,
              Not(Contains(HasSubstr("onednn_brgemm_int"))));
}

TEST(KernelSetTest, OnednnsEffectiveIsaIsObeyed) {
  const char* max = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (max == nullptr || std::string(max) != "AVX2") GTEST_SKIP() << "run with that variable only";
  EXPECT_EQ(GetOneDnnIsa().name, "AVX2");
  EXPECT_STREQ(TestKernels().vector->name, "avx2");
  EXPECT_STREQ(TestKernels().attention->name, "avx2");
  EXPECT_EQ(TestKernels(WeightFormat::kInt8).weights->name(), "avx2_int8");
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
  EXPECT_THAT(std::string(status.message()), HasSubstr("--weights=f32, int8 or int4"));
}

TEST(KernelSetTest, UnknownAndUnsupportedTiersAreErrors) {
  TestKernels();
  const absl::Status unknown = SelectKernels(WeightFormat::kF32, "avx3").status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("'avx3'"));
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("avx512_vnni"));
  if (!GetOneDnnIsa().amx) {
    const absl::Status amx = SelectKernels(WeightFormat::kF32, "amx").status();
    EXPECT_EQ(amx.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(amx.message()), HasSubstr("SLUICE_KERNELS=amx"));
  }
}

}  // namespace
}  // namespace sluice::kernels
