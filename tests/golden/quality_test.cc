// What the formats of weights cost in quality, on the bundled model: its golden prompts with their
// answers, and conversations that it was not trained on.
#include "bench/quality.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "kernels/element_types.h"
#include "model/checkpoint.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace sluice::bench {
namespace {

const char kFolder[] = SLUICE_SOURCE_DIR "/models/demo";

// What the project promises of each format, against f32.
struct Bounds {
  kernels::WeightFormat format;
  double mean_kl;
  double argmax_agreement;  // on the golden answers
  double perplexity_change;
};
constexpr Bounds kBounds[] = {{kernels::WeightFormat::kBf16, 1e-4, 0.998, 0.001},
                              {kernels::WeightFormat::kInt8, 5e-4, 0.995, 0.002},
                              {kernels::WeightFormat::kInt4, 1e-2, 0.98, 0.01}};

class QualityTest : public ::testing::TestWithParam<Bounds> {
 protected:
  void SetUp() override {
    auto checkpoint = model::Checkpoint::Open(kFolder);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
  }

  absl::StatusOr<QualityRow> Measure(const std::vector<QualityText>& texts) {
    auto row = MeasureQuality(*checkpoint_, GetParam().format, /*num_threads=*/2, "", texts);
    if (row.ok()) std::printf("%s", QualityTable({&*row, 1}).c_str());
    return row;
  }

  std::unique_ptr<model::Checkpoint> checkpoint_;
};

TEST_P(QualityTest, GoldenAnswersStayWithinTheBounds) {
  const auto texts = ReadGoldenTexts(std::string(kFolder) + "/golden.json");
  ASSERT_TRUE(texts.ok()) << texts.status();
  ASSERT_EQ(texts->size(), 24u);
  const auto row = Measure(*texts);
  if (absl::IsFailedPrecondition(row.status())) GTEST_SKIP() << row.status();
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_LE(row->mean_kl, GetParam().mean_kl);
  EXPECT_GE(row->argmax_agreement, GetParam().argmax_agreement);
  EXPECT_LE(std::abs(row->perplexity_change()), GetParam().perplexity_change);
}

TEST_P(QualityTest, HeldOutConversationsStayWithinTheBounds) {
  const auto tokenizer = tokenizer::Tokenizer::Load(kFolder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto chat_template = tokenizer::ChatTemplate::Load(kFolder);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  const auto texts =
      ReadConversations(std::string(kFolder) + "/heldout.jsonl", **tokenizer, **chat_template);
  ASSERT_TRUE(texts.ok()) << texts.status();
  ASSERT_EQ(texts->size(), 200u);
  const auto row = Measure(*texts);
  if (absl::IsFailedPrecondition(row.status())) GTEST_SKIP() << row.status();
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_LE(row->mean_kl, GetParam().mean_kl);
  EXPECT_LE(std::abs(row->perplexity_change()), GetParam().perplexity_change);
}

INSTANTIATE_TEST_SUITE_P(Formats, QualityTest, ::testing::ValuesIn(kBounds), [](const auto& test) {
  return std::string(kernels::NameOf(test.param.format));
});

}  // namespace
}  // namespace sluice::bench
