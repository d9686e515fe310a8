#include "bench/quality.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/random_checkpoint.h"

namespace sluice::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const char kDemo[] = SLUICE_SOURCE_DIR "/models/demo";

TEST(QualityTallyTest, ComparesDistributionsByHand) {
  // Probabilities 1/2, 1/4, 1/4 and 1/4, 1/2, 1/4; logits may be shifted by anything.
  const float a = std::log(2.0f);
  const std::vector<float> f32 = {a, 0, 0};
  const std::vector<float> other = {5, 5 + a, 5};
  QualityTally tally;
  tally.Add(f32, other, 0, /*is_answer=*/true);
  tally.Add(f32, f32, 1, /*is_answer=*/true);
  tally.Add(f32, other, 2, /*is_answer=*/false);
  const QualityRow row = tally.Row("int8", "some");
  EXPECT_EQ(row.format, "int8");
  EXPECT_EQ(row.texts, "some");
  EXPECT_EQ(row.positions, 3);
  EXPECT_EQ(row.answer_positions, 2);
  // 1/2 log 2 + 1/4 log 1/2, twice, over three positions.
  EXPECT_NEAR(row.mean_kl, 2 * 0.25 * std::log(2.0) / 3, 1e-6);
  EXPECT_DOUBLE_EQ(row.argmax_agreement, 0.5);
  EXPECT_NEAR(row.f32_perplexity, 1 / std::sqrt(0.5 * 0.25), 1e-6);
  EXPECT_NEAR(row.perplexity, 1 / std::sqrt(0.25 * 0.25), 1e-6);
  EXPECT_NEAR(row.perplexity_change(), std::sqrt(2.0) - 1, 1e-6);
}

TEST(QualityTallyTest, LargeLogitsDoNotOverflow) {
  const std::vector<float> logits = {3e4f, -3e4f};
  QualityTally tally;
  tally.Add(logits, logits, 0, /*is_answer=*/true);
  EXPECT_EQ(tally.Row("", "").mean_kl, 0);
  EXPECT_EQ(tally.Row("", "").perplexity, 1);
}

// A text over several steps, so that steps have to meet in the cache.
TEST(QualityTest, AFormatAgreesWithItself) {
  model::ModelConfig config = testing::SmallModelConfig();
  config.max_context = 1000;
  const testing::RandomCheckpoint checkpoint(config, model::DType::kF32, 1);
  QualityText text{.answer_begin = 3};
  for (int i = 0; i < 600; ++i) text.tokens.push_back(i * 7 % config.vocab_size);
  const auto row = MeasureQuality(checkpoint, kernels::WeightFormat::kF32, 2, "x", {&text, 1});
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_EQ(row->positions, 599);
  EXPECT_EQ(row->answer_positions, 597);
  EXPECT_EQ(row->mean_kl, 0);
  EXPECT_EQ(row->argmax_agreement, 1);
  EXPECT_EQ(row->perplexity, row->f32_perplexity);
}

TEST(QualityTest, TextsThatTheModelCannotTakeAreErrors) {
  model::ModelConfig config = testing::SmallModelConfig();
  config.max_context = 4;
  const testing::RandomCheckpoint checkpoint(config, model::DType::kF32, 1);
  const QualityText bad[] = {{{1, 2, 3, 4, 5}, 1}, {{1, config.vocab_size}, 1}, {{1, -1}, 1}};
  for (const QualityText& text : bad) {
    EXPECT_EQ(
        MeasureQuality(checkpoint, kernels::WeightFormat::kF32, 1, "x", {&text, 1}).status().code(),
        absl::StatusCode::kInvalidArgument);
  }
}

// A file that is gone when the test ends.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content)
      : path_(std::filesystem::temp_directory_path() /
              ("quality_test." + std::to_string(getpid()))) {
    std::ofstream(path_) << content;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  const std::filesystem::path path_;
};

TEST(QualityTextsTest, GoldenCasesArePromptsWithCompletions) {
  const TemporaryFile file(R"({"cases": [{"prompt_ids": [1, 2], "completion_ids": [3]}]})");
  const auto texts = ReadGoldenTexts(file.path());
  ASSERT_TRUE(texts.ok()) << texts.status();
  ASSERT_EQ(texts->size(), 1u);
  EXPECT_THAT((*texts)[0].tokens, ElementsAre(1, 2, 3));
  EXPECT_EQ((*texts)[0].answer_begin, 2u);
}

TEST(QualityTextsTest, MalformedFilesAreErrorsThatNameThem) {
  const std::string golden[] = {
      "{",
      "[]",
      R"({"cases": []})",
      R"({"cases": {}})",
      R"({"cases": [1]})",
      R"({"cases": [{"prompt_ids": [1]}]})",
      R"({"cases": [{"prompt_ids": [], "completion_ids": [1]}]})",
      R"({"cases": [{"prompt_ids": [-1], "completion_ids": [1]}]})",
      R"({"cases": [{"prompt_ids": [4294967296], "completion_ids": [1]}]})",
      R"({"cases": [{"prompt_ids": ["1"], "completion_ids": [1]}]})",
  };
  for (const std::string& content : golden) {
    const TemporaryFile file(content);
    const absl::Status status = ReadGoldenTexts(file.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << content;
    EXPECT_THAT(std::string(status.message()), HasSubstr(file.path()));
  }
  EXPECT_EQ(ReadGoldenTexts("/nonexistent").status().code(), absl::StatusCode::kNotFound);
}

class ConversationsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = tokenizer::Tokenizer::Load(kDemo);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    auto chat_template = tokenizer::ChatTemplate::Load(kDemo);
    ASSERT_TRUE(chat_template.ok()) << chat_template.status();
    chat_template_ = *std::move(chat_template);
  }

  absl::StatusOr<std::vector<QualityText>> Read(const std::string& file) const {
    return ReadConversations(file, *tokenizer_, *chat_template_);
  }

  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  std::unique_ptr<tokenizer::ChatTemplate> chat_template_;
};

// The golden file has the same conversation as text and, from the reference tokenizer, as ids.
TEST_F(ConversationsTest, AreTheTokensThatTheModelSawInTraining) {
  std::ifstream stream(std::string(kDemo) + "/golden.json");
  const nlohmann::json golden = nlohmann::json::parse(stream, nullptr, false)["cases"];
  std::string lines;
  for (const nlohmann::json& entry : golden) {
    lines += nlohmann::json{{"prompt", entry["messages"][0]["content"]},
                            {"reference", entry["completion"]}}
                 .dump() +
             "\n";
  }
  const TemporaryFile file(lines);
  const auto texts = Read(file.path());
  ASSERT_TRUE(texts.ok()) << texts.status();
  const auto want = ReadGoldenTexts(std::string(kDemo) + "/golden.json");
  ASSERT_TRUE(want.ok()) << want.status();
  ASSERT_EQ(texts->size(), want->size());
  for (size_t i = 0; i < want->size(); ++i) {
    EXPECT_EQ((*texts)[i].tokens, (*want)[i].tokens) << i;
    EXPECT_EQ((*texts)[i].answer_begin, (*want)[i].answer_begin) << i;
  }
}

TEST_F(ConversationsTest, MalformedLinesAreErrorsThatNameThem) {
  const std::string good = R"({"prompt": "Hello", "reference": "Hi"})";
  for (const std::string bad : {"", "{", "[]", R"({"prompt": "a"})", R"({"reference": "a"})",
                                R"({"prompt": "a", "reference": 1})"}) {
    const TemporaryFile file(good + "\n" + bad + "\n");
    const absl::Status status = Read(file.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("line 2"));
  }
}

TEST(QualityReportTest, TableAndJsonHaveTheFigures) {
  const QualityRow row = {.format = "int4",
                          .texts = "golden",
                          .positions = 1860,
                          .answer_positions = 1489,
                          .mean_kl = 0.0025,
                          .argmax_agreement = 0.984375,
                          .f32_perplexity = 1.25,
                          .perplexity = 1.5};
  const std::string table = QualityTable({&row, 1});
  for (const char* text :
       {"int4", "golden", "1860", "2.50e-03", "1489", "98.44", "1.50000", "+20.000"})
    EXPECT_THAT(table, HasSubstr(text));
  const nlohmann::json want = nlohmann::json::array({{{"weights", "int4"},
                                                      {"texts", "golden"},
                                                      {"positions", 1860},
                                                      {"mean_kl", 0.0025},
                                                      {"answer_positions", 1489},
                                                      {"argmax_agreement", 0.984375},
                                                      {"f32_perplexity", 1.25},
                                                      {"perplexity", 1.5},
                                                      {"perplexity_change", 1.5 / 1.25 - 1}}});
  EXPECT_EQ(nlohmann::json::parse(QualityJson({&row, 1}), nullptr, false), want);
}

}  // namespace
}  // namespace sluice::bench
