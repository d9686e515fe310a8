// Every golden checkpoint against its reference results: logits, routes and greedy continuations.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "golden_dir.h"
#include "kernels/kernel_set.h"
#include "model/checkpoint.h"
#include "model/mapped_file.h"
#include "model/safetensors.h"
#include "support/f64_model.h"
#include "support/model_session.h"
#include "support/tolerance.h"

namespace sluice::testing {
namespace {

using kernels::WeightFormat;

// What the reference says about one prompt. L = MoE layers.
struct Prompt {
  std::string name;
  std::vector<TokenId> input_ids;
  std::vector<float> logits;                  // [T, V]
  std::vector<std::vector<int32_t>> experts;  // L times [T, K], ascending
  std::vector<std::vector<float>> weights;    // L times [T, K]
  std::vector<TokenId> greedy;
};

struct Golden {
  double logits_abs = 0;
  double router_weights_abs = 0;
  std::vector<Prompt> prompts;
};

template <typename T>
std::vector<T> Read(const std::vector<model::TensorEntry>& entries, const std::string& name,
                    const std::string& dtype) {
  for (const model::TensorEntry& entry : entries) {
    if (entry.name != name) continue;
    EXPECT_EQ(entry.dtype, dtype) << name;
    std::vector<T> values(entry.data.size() / sizeof(T));
    std::memcpy(values.data(), entry.data.data(), entry.data.size());
    return values;
  }
  ADD_FAILURE() << "golden.safetensors has no " << name;
  return {};
}

template <typename T>
std::vector<std::vector<T>> Split(const std::vector<T>& values, size_t parts) {
  std::vector<std::vector<T>> result;
  const size_t size = parts == 0 ? 0 : values.size() / parts;
  for (size_t i = 0; i < parts; ++i)
    result.emplace_back(values.begin() + i * size, values.begin() + (i + 1) * size);
  return result;
}

Golden LoadGolden(const std::filesystem::path& folder) {
  Golden golden;
  std::ifstream file(folder / "golden.json");
  const nlohmann::json json = nlohmann::json::parse(file, nullptr, false);
  EXPECT_TRUE(json.is_object()) << folder / "golden.json";
  if (!json.is_object()) return golden;
  golden.logits_abs = json["tolerance"]["logits_abs"].get<double>();
  golden.router_weights_abs = json["tolerance"]["router_weights_abs"].get<double>();
  const size_t layers = json["moe_layers"].size();

  const auto mapped = model::MappedFile::Open(folder / "golden.safetensors");
  EXPECT_TRUE(mapped.ok()) << mapped.status();
  if (!mapped.ok()) return golden;
  const auto entries = model::ParseSafetensors("golden.safetensors", mapped->bytes());
  EXPECT_TRUE(entries.ok()) << entries.status();
  if (!entries.ok()) return golden;
  for (const nlohmann::json& prompt : json["prompts"]) {
    const std::string name = prompt["id"].get<std::string>();
    golden.prompts.push_back(
        {.name = name,
         .input_ids = Read<TokenId>(*entries, name + ".input_ids", "I32"),
         .logits = Read<float>(*entries, name + ".logits", "F32"),
         .experts = Split(Read<int32_t>(*entries, name + ".router_experts", "I32"), layers),
         .weights = Split(Read<float>(*entries, name + ".router_weights", "F32"), layers),
         .greedy = Read<TokenId>(*entries, name + ".greedy", "I32")});
  }
  EXPECT_FALSE(golden.prompts.empty());
  return golden;
}

double MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double max = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double{a[i]} - b[i]);
    if (!(difference <= max)) max = difference;  // NaN too
  }
  return max;
}

// Experts with their weights in ascending order of id, as the reference has them.
void SortById(size_t top_k, std::vector<int32_t>& experts, std::vector<float>& weights) {
  for (size_t i = 0; i < experts.size(); i += top_k) {
    std::vector<std::pair<int32_t, float>> routes;
    for (size_t k = i; k < i + top_k; ++k) routes.emplace_back(experts[k], weights[k]);
    std::sort(routes.begin(), routes.end());
    for (size_t k = 0; k < top_k; ++k) std::tie(experts[i + k], weights[i + k]) = routes[k];
  }
}

bool BitwiseEqual(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class GoldenModelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::filesystem::path folder = golden::GoldenDir() / "models" / GetParam();
    auto checkpoint = model::Checkpoint::Open(folder);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
    golden_ = LoadGolden(folder);
  }

  std::unique_ptr<ModelSession> MakeSession(WeightFormat format, int num_threads = 2) {
    auto session = ModelSession::Create(*checkpoint_, format, num_threads);
    EXPECT_TRUE(session.ok()) << session.status();
    return session.ok() ? *std::move(session) : nullptr;
  }

  std::unique_ptr<model::Checkpoint> checkpoint_;
  Golden golden_;
};

TEST_P(GoldenModelTest, LogitsAndRoutesAreTheReferences) {
  const auto session = MakeSession(WeightFormat::kF32);
  ASSERT_NE(session, nullptr);
  double worst = 0;
  for (const Prompt& prompt : golden_.prompts) {
    SCOPED_TRACE(prompt.name);
    ModelSession::Sequence result = session->Run(prompt.input_ids);
    const double error = MaxDifference(result.logits, prompt.logits);
    EXPECT_LE(error, golden_.logits_abs);
    worst = std::max(worst, error);
    ASSERT_EQ(result.experts.size(), prompt.experts.size());
    for (size_t layer = 0; layer < prompt.experts.size(); ++layer) {
      SortById(checkpoint_->config().router.top_k, result.experts[layer], result.weights[layer]);
      EXPECT_EQ(result.experts[layer], prompt.experts[layer]) << "MoE layer " << layer;
      EXPECT_LE(MaxDifference(result.weights[layer], prompt.weights[layer]),
                golden_.router_weights_abs)
          << "MoE layer " << layer;
    }
  }
  RecordProperty("worst_logit_error_relative_to_tolerance",
                 std::to_string(worst / golden_.logits_abs));
  std::cout << "worst logit error: " << worst << ", " << worst / golden_.logits_abs
            << " of the tolerance\n";
}

TEST_P(GoldenModelTest, GreedyContinuationsAreTheReferences) {
  const auto session = MakeSession(WeightFormat::kF32);
  ASSERT_NE(session, nullptr);
  for (const Prompt& prompt : golden_.prompts) {
    EXPECT_EQ(session->Generate(prompt.input_ids, static_cast<int>(prompt.greedy.size())),
              prompt.greedy)
        << prompt.name;
  }
}

// However a prompt is cut into steps, and with however many threads, every logit is the same bit by
// bit.
TEST_P(GoldenModelTest, ChunkedPromptsGiveTheSameBits) {
  const auto session = MakeSession(WeightFormat::kF32);
  const auto one_thread = MakeSession(WeightFormat::kF32, 1);
  ASSERT_TRUE(session != nullptr && one_thread != nullptr);
  for (const Prompt& prompt : golden_.prompts) {
    const ModelSession::Sequence& whole = session->Run(prompt.input_ids);
    for (const std::vector<size_t>& sizes :
         {std::vector<size_t>{1}, std::vector<size_t>{3, 1, 7, 16, 5}, std::vector<size_t>{37}}) {
      ModelSession::Sequence& chunked = one_thread->Add();
      size_t chunk = 0;
      for (size_t first = 0; first < prompt.input_ids.size();) {
        const size_t size =
            std::min(sizes[chunk++ % sizes.size()], prompt.input_ids.size() - first);
        one_thread->Step(
            {{&chunked,
              {prompt.input_ids.begin() + first, prompt.input_ids.begin() + first + size}}});
        first += size;
      }
      EXPECT_TRUE(BitwiseEqual(chunked.logits, whole.logits))
          << prompt.name << " in chunks of " << sizes[0];
    }
  }
}

TEST_P(GoldenModelTest, PromptsInOneBatchGiveTheSameBits) {
  const auto session = MakeSession(WeightFormat::kF32);
  ASSERT_NE(session, nullptr);
  std::vector<ModelSession::Part> parts;
  for (const Prompt& prompt : golden_.prompts) parts.push_back({&session->Add(), prompt.input_ids});
  std::vector<TokenId> next = session->Step(parts);
  for (size_t i = 0; i < parts.size(); ++i) {
    EXPECT_TRUE(
        BitwiseEqual(parts[i].sequence->logits, session->Run(golden_.prompts[i].input_ids).logits))
        << golden_.prompts[i].name;
  }
  // And all of them generate at once.
  for (size_t step = 0; step < golden_.prompts[0].greedy.size(); ++step) {
    for (size_t i = 0; i < parts.size(); ++i) {
      ASSERT_EQ(next[i], golden_.prompts[i].greedy[step]) << golden_.prompts[i].name;
      parts[i].tokens = {next[i]};
    }
    next = session->Step(parts);
  }
}

// With the reference's routes, since a close call of the router would otherwise turn a rounding
// error into another network.
TEST_P(GoldenModelTest, LogitsOfFormatsThatRoundStayWithinTheirBounds) {
  struct Row {
    WeightFormat format;
    F64Model::Rounding rounding;
    double least;  // a finer format would be closer to the truth: this one did run
  };
  const Row rows[] = {{WeightFormat::kBf16, F64Model::Rounding::kBf16, 1e-8},
                      {WeightFormat::kInt8, F64Model::Rounding::kInt8, 1e-5},
                      {WeightFormat::kInt4, F64Model::Rounding::kInt4, 1e-3}};
  for (const Row& row : rows) {
    SCOPED_TRACE(kernels::NameOf(row.format));
    if (row.format == WeightFormat::kBf16) {
      const absl::Status status = kernels::SelectKernels(row.format).status();
      if (absl::IsFailedPrecondition(status)) continue;
    }
    const auto session = MakeSession(row.format);
    ASSERT_NE(session, nullptr);
    const F64Model simulation(*checkpoint_, row.rounding);
    for (const Prompt& prompt : golden_.prompts) {
      const absl::Span<const float> truth = prompt.logits;
      const ModelSession::Sequence& result = session->Run(prompt.input_ids, &prompt.experts);
      const std::vector<float> simulated = simulation.Run(prompt.input_ids, &prompt.experts).logits;
      ASSERT_EQ(result.logits.size(), truth.size());
      const double error = Nmse<float, float>(result.logits, truth);
      const double cost = Nmse<float, float>(simulated, truth);
      EXPECT_LE(error, RoundedLogitsNmseBound(cost)) << prompt.name;
      EXPECT_GT(error, row.least) << prompt.name;
      std::cout << kernels::NameOf(row.format) << ", " << prompt.name << ": NMSE " << error
                << ", simulated " << cost << "\n";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenModelTest,
                         ::testing::ValuesIn(golden::GoldenCases("models")),
                         [](const auto& param) { return golden::TestName(param.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenModelTest);

}  // namespace
}  // namespace sluice::testing
