// The bundled model against its golden completions, on the model runner: tokens, and the tokens
// that each expert received, alone and with all prompts in one batch.
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "support/model_session.h"

namespace sluice::testing {
namespace {

const char kFolder[] = SLUICE_SOURCE_DIR "/models/demo";

struct Case {
  std::vector<TokenId> prompt;
  std::vector<TokenId> completion;
  std::vector<std::vector<int>> expert_tokens;  // [layer][expert], without the last token
};

class DemoModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(std::string(kFolder) + "/golden.json");
    const nlohmann::json json = nlohmann::json::parse(file, nullptr, false);
    ASSERT_TRUE(json.is_object());
    for (const nlohmann::json& entry : json["cases"]) {
      cases_.push_back({entry["prompt_ids"].get<std::vector<TokenId>>(),
                        entry["completion_ids"].get<std::vector<TokenId>>(),
                        entry["expert_tokens_fed"].get<std::vector<std::vector<int>>>()});
    }
    ASSERT_EQ(cases_.size(), 24);
    auto checkpoint = model::Checkpoint::Open(kFolder);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    auto session = ModelSession::Create(**checkpoint, kernels::WeightFormat::kF32);
    ASSERT_TRUE(session.ok()) << session.status();
    session_ = *std::move(session);
  }

  // Generates the completions of `cases` side by side and checks them.
  void Check(absl::Span<const Case> cases) {
    std::vector<ModelSession::Sequence*> sequences;
    std::vector<std::vector<TokenId>> generated;
    for (const Case& c : cases) {
      sequences.push_back(&session_->Add());
      generated.push_back(session_->Step({{sequences.back(), c.prompt}}));
    }
    for (bool more = true; more;) {
      std::vector<ModelSession::Part> parts;
      std::vector<size_t> indices;
      for (size_t i = 0; i < cases.size(); ++i) {
        if (generated[i].size() == cases[i].completion.size()) continue;
        parts.push_back({sequences[i], {generated[i].back()}});
        indices.push_back(i);
      }
      more = !parts.empty();
      if (!more) break;
      const std::vector<TokenId> next = session_->Step(parts);
      for (size_t p = 0; p < parts.size(); ++p) generated[indices[p]].push_back(next[p]);
    }
    for (size_t i = 0; i < cases.size(); ++i) {
      EXPECT_EQ(generated[i], cases[i].completion) << "case " << i;
      std::vector<std::vector<int>> tokens;
      for (const std::vector<int32_t>& experts : sequences[i]->experts) {
        tokens.emplace_back(cases[i].expert_tokens[0].size(), 0);
        for (const int32_t expert : experts) ++tokens.back()[expert];
      }
      EXPECT_EQ(tokens, cases[i].expert_tokens) << "case " << i;
    }
  }

  std::vector<Case> cases_;
  std::unique_ptr<ModelSession> session_;
};

TEST_F(DemoModelTest, CompletesAPromptAlone) { Check(absl::MakeConstSpan(cases_).first(1)); }

TEST_F(DemoModelTest, CompletesAllPromptsInOneBatch) { Check(cases_); }

}  // namespace
}  // namespace sluice::testing
