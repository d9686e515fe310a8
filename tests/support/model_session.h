// ModelSession: a CpuModelRunner with sequences whose blocks are handed out in a scattered order,
// and a record of the logits and routes of each.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/token.h"
#include "model/cpu_model_runner.h"

namespace sluice::testing {

class ModelSession : private model::StepObserver {
 public:
  // One sequence and what the model said about each of its tokens so far.
  struct Sequence {
    std::vector<TokenId> tokens;
    std::vector<model::BlockId> blocks;
    std::vector<float> logits;                  // [T, V]
    std::vector<std::vector<int32_t>> experts;  // per sparse layer [T, K]
    std::vector<std::vector<float>> weights;    // per sparse layer [T, K]
    // Used in place of the router's choice, if set.
    const std::vector<std::vector<int32_t>>* forced_experts = nullptr;
  };

  static absl::StatusOr<std::unique_ptr<ModelSession>> Create(
      const model::Checkpoint& checkpoint, kernels::WeightFormat format, int num_threads = 2,
      std::optional<kernels::KvFormat> kv_format = std::nullopt);

  model::CpuModelRunner& runner() { return *runner_; }

  // A new sequence, owned by the session, without tokens.
  Sequence& Add();

  // Computes one step: for each sequence the tokens given with it. Returns the greedy next token of
  // each.
  struct Part {
    Sequence* sequence;
    std::vector<TokenId> tokens;
  };
  std::vector<TokenId> Step(const std::vector<Part>& parts);

  // Computes `tokens` as one step of a new sequence, with these experts if any are given.
  const Sequence& Run(const std::vector<TokenId>& tokens,
                      const std::vector<std::vector<int32_t>>* forced_experts = nullptr);

  // `count` greedy tokens after a prompt.
  std::vector<TokenId> Generate(const std::vector<TokenId>& prompt, int count);

 private:
  void OnRoutes(int layer, absl::Span<const float> probabilities,
                absl::Span<int32_t> experts) override;
  void OnRouteWeights(int layer, absl::Span<const int32_t> experts,
                      absl::Span<const float> weights) override;
  void OnLogits(int64_t row, absl::Span<const float> logits) override;

  // Which sequence, and which of its tokens, each row of the current step is.
  struct Row {
    Sequence* sequence;
    size_t token;
  };

  std::unique_ptr<model::CpuModelRunner> runner_;
  std::vector<int> sparse_index_;  // of each decoder layer
  std::vector<model::BlockId> free_blocks_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<Row> rows_;
};

}  // namespace sluice::testing
