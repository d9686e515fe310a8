#include "support/model_session.h"

#include <algorithm>
#include <random>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace sluice::testing {
namespace {

constexpr int kNumBlocks = 512;

}  // namespace

absl::StatusOr<std::unique_ptr<ModelSession>> ModelSession::Create(
    const model::Checkpoint& checkpoint, kernels::WeightFormat format, int num_threads,
    std::optional<kernels::KvFormat> kv_format) {
  const model::ModelConfig& config = checkpoint.config();
  const int64_t block_bytes =
      model::KvCache::Shape::Of(config, kv_format.value_or(model::DefaultKvFormat(format)))
          .block_bytes();
  auto session = std::make_unique<ModelSession>();
  ASSIGN_OR_RETURN(session->runner_, model::CpuModelRunner::Create(
                                         checkpoint, {.weights = format,
                                                      .num_threads = num_threads,
                                                      .kv_cache_bytes = kNumBlocks * block_bytes,
                                                      .kv_cache_format = kv_format,
                                                      .max_step_tokens = 256,
                                                      .max_step_sequences = 32}));
  session->runner_->set_observer(session.get());
  int sparse_layers = 0;
  for (const model::LayerConfig& layer : config.layers)
    session->sparse_index_.push_back(layer.sparse ? sparse_layers++ : 0);
  for (int block = 0; block < kNumBlocks; ++block) session->free_blocks_.push_back(block);
  std::shuffle(session->free_blocks_.begin(), session->free_blocks_.end(), std::mt19937(1));
  return session;
}

ModelSession::Sequence& ModelSession::Add() {
  Sequence& sequence = *sequences_.emplace_back(std::make_unique<Sequence>());
  const model::ModelConfig& config = runner_->config();
  const size_t sparse_layers =
      std::count_if(config.layers.begin(), config.layers.end(),
                    [](const model::LayerConfig& layer) { return layer.sparse; });
  sequence.experts.resize(sparse_layers);
  sequence.weights.resize(sparse_layers);
  return sequence;
}

std::vector<TokenId> ModelSession::Step(const std::vector<Part>& parts) {
  const model::SamplingParams greedy;
  std::vector<model::SequenceStep> steps;
  rows_.clear();
  for (const Part& part : parts) {
    Sequence& sequence = *part.sequence;
    const size_t first = sequence.tokens.size();
    for (size_t i = 0; i < part.tokens.size(); ++i) rows_.push_back({&sequence, first + i});
    sequence.tokens.insert(sequence.tokens.end(), part.tokens.begin(), part.tokens.end());
    while (sequence.blocks.size() * model::kKvBlockTokens < sequence.tokens.size()) {
      CHECK(!free_blocks_.empty());
      sequence.blocks.push_back(free_blocks_.back());
      free_blocks_.pop_back();
    }
    steps.push_back({.tokens = part.tokens,
                     .first_position = static_cast<int64_t>(first),
                     .block_table = sequence.blocks,
                     .sampling = &greedy});
  }
  std::vector<TokenId> next;
  for (const model::SequenceResult& result : runner_->Run(steps)) next.push_back(*result.token);
  return next;
}

const ModelSession::Sequence& ModelSession::Run(
    const std::vector<TokenId>& tokens, const std::vector<std::vector<int32_t>>* forced_experts) {
  Sequence& sequence = Add();
  sequence.forced_experts = forced_experts;
  Step({{&sequence, tokens}});
  return sequence;
}

std::vector<TokenId> ModelSession::Generate(const std::vector<TokenId>& prompt, int count) {
  Sequence& sequence = Add();
  std::vector<TokenId> generated = Step({{&sequence, prompt}});
  while (static_cast<int>(generated.size()) < count)
    generated.push_back(Step({{&sequence, {generated.back()}}})[0]);
  free_blocks_.insert(free_blocks_.end(), sequence.blocks.begin(), sequence.blocks.end());
  return generated;
}

void ModelSession::OnRoutes(int layer, absl::Span<const float>, absl::Span<int32_t> experts) {
  const size_t top_k = experts.size() / rows_.size();
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (rows_[r].sequence->forced_experts == nullptr) continue;
    const std::vector<int32_t>& forced = (*rows_[r].sequence->forced_experts)[sparse_index_[layer]];
    std::copy_n(forced.begin() + rows_[r].token * top_k, top_k, experts.begin() + r * top_k);
  }
}

void ModelSession::OnRouteWeights(int layer, absl::Span<const int32_t> experts,
                                  absl::Span<const float> weights) {
  const size_t top_k = experts.size() / rows_.size();
  for (size_t r = 0; r < rows_.size(); ++r) {
    Sequence& sequence = *rows_[r].sequence;
    const auto append = [&](auto& to, auto from) {
      const auto part = from.subspan(r * top_k, top_k);
      to.insert(to.end(), part.begin(), part.end());
    };
    append(sequence.experts[sparse_index_[layer]], experts);
    append(sequence.weights[sparse_index_[layer]], weights);
  }
}

void ModelSession::OnLogits(int64_t row, absl::Span<const float> logits) {
  std::vector<float>& to = rows_[row].sequence->logits;
  to.insert(to.end(), logits.begin(), logits.end());
}

}  // namespace sluice::testing
