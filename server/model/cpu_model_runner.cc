#include "model/cpu_model_runner.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "kernels/onednn_brgemm.h"

namespace sluice::model {
namespace {

absl::Status CheckOptions(const CpuModelRunner::Options& options) {
  if (options.num_threads < 1) return absl::InvalidArgumentError("threads must be at least 1");
  if (options.max_step_tokens < 1)
    return absl::InvalidArgumentError("the step budget must be at least 1 token");
  if (options.max_step_sequences < 1)
    return absl::InvalidArgumentError("a step must have room for at least 1 sequence");
  return absl::OkStatus();
}

KvCache::Shape CacheShape(const ModelConfig& config, const CpuModelRunner::Options& options) {
  return KvCache::Shape::Of(config,
                            options.kv_cache_format.value_or(DefaultKvFormat(options.weights)));
}

// The inner dimensions of all products.
std::vector<int64_t> InnerSizes(const ModelConfig& config) {
  std::vector<int64_t> sizes;
  for (const int64_t k : {int64_t{config.hidden_size},
                          int64_t{config.attention.num_heads} * config.attention.head_dim,
                          int64_t{config.expert_ffn_size}, int64_t{config.shared_ffn_size},
                          int64_t{config.dense_ffn_size}}) {
    if (k > 0) sizes.push_back(k);
  }
  return sizes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CpuModelRunner>> CpuModelRunner::Create(const Checkpoint& checkpoint,
                                                                       const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(CheckOptions(options));
  kernels::InitComputeThread();
  const ModelConfig& config = checkpoint.config();
  ASSIGN_OR_RETURN(kernels::KernelSet kernels, kernels::SelectKernels(options.weights));
  for (const std::string& line : kernels.report) base::Log().info("kernels: {}", line);
  for (const int64_t k : InnerSizes(config)) {
    RETURN_IF_ERROR(kernels.matmul(options.weights).Prepare(k));
  }
  RETURN_IF_ERROR(kernels.f32->Prepare(config.hidden_size));  // the router
  ASSIGN_OR_RETURN(KvCache cache,
                   KvCache::Create(CacheShape(config, options), options.kv_cache_bytes));
  std::unique_ptr<CpuModelRunner> runner(
      new CpuModelRunner(checkpoint, options, std::move(kernels), std::move(cache)));
  ASSIGN_OR_RETURN(runner->weights_,
                   Weights::Pack(checkpoint, {.format = options.weights,
                                              .vector = runner->kernels_.vector,
                                              .quantized = runner->kernels_.quantized,
                                              .pool = &runner->pool_}));
  runner->load_info_.weights = runner->weights_.size;
  ASSIGN_OR_RETURN(
      runner->transformer_,
      Transformer::Create(runner->config_, runner->weights_, *runner->compute_, runner->cache_,
                          {.max_step_tokens = options.max_step_tokens,
                           .max_step_sequences = options.max_step_sequences}));
  runner->load_info_.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return runner;
}

CpuModelRunner::CpuModelRunner(const Checkpoint& checkpoint, const Options& options,
                               kernels::KernelSet kernels, KvCache cache)
    : options_(options),
      config_(checkpoint.config()),
      kernels_(std::move(kernels)),
      pool_({.num_threads = options.num_threads,
             .pin = options.pin,
             .on_thread_start = [](int) { kernels::InitComputeThread(); }}),
      cache_(std::move(cache)) {
  const std::vector<int64_t> inner_sizes = InnerSizes(config_);
  compute_ = std::make_unique<kernels::Compute>(
      kernels_, pool_,
      kernels::Compute::Limits{
          .max_rows = std::max<int64_t>(options.max_step_tokens, Transformer::kMaxLogitRows),
          .max_k = *std::max_element(inner_sizes.begin(), inner_sizes.end())});
  for (int thread = 0; thread < options.num_threads; ++thread)
    samplers_.emplace_back(*kernels_.vector, config_.vocab_size);
  batch_.Reserve(options.max_step_tokens, options.max_step_sequences);
  logit_rows_.reserve(options.max_step_tokens);
  rows_.reserve(Transformer::kMaxLogitRows);
  results_.resize(options.max_step_sequences);

  load_info_.kernels = kernels_.report;
  load_info_.isa = kernels_.isa;
  load_info_.num_kv_blocks = cache_.num_blocks();
  load_info_.kv_block_bytes = cache_.shape().block_bytes();
  load_info_.kv_cache_format = cache_.shape().format;
}

absl::Span<const SequenceResult> CpuModelRunner::Run(absl::Span<const SequenceStep> batch) {
  kernels::InitComputeThread();
  pool_.PinCaller();
  batch_.Assign(batch);
  CHECK(batch.size() <= static_cast<size_t>(options_.max_step_sequences));
  CHECK(batch_.num_rows() <= options_.max_step_tokens);
  for (size_t s = 0; s < batch.size(); ++s) {
    CHECK(!batch[s].tokens.empty() && batch[s].targets.size() <= batch[s].tokens.size());
    results_[s].token.reset();
    results_[s].logprob.reset();
    results_[s].prompt_logprobs.clear();
    results_[s].prompt_logprobs.resize(batch[s].targets.size());
  }
  transformer_->Forward(batch_, observer_);

  FindLogitRows();
  for (size_t first = 0; first < logit_rows_.size(); first += Transformer::kMaxLogitRows) {
    const absl::Span<const LogitRow> part =
        absl::MakeConstSpan(logit_rows_).subspan(first, Transformer::kMaxLogitRows);
    rows_.clear();
    for (const LogitRow& row : part) rows_.push_back(row.row);
    const absl::Span<float> logits = transformer_->Logits(rows_);
    const auto logits_of = [&](int64_t i) {
      return logits.subspan(i * config_.vocab_size, config_.vocab_size);
    };
    if (observer_ != nullptr) {
      for (size_t i = 0; i < part.size(); ++i) observer_->OnLogits(part[i].row, logits_of(i));
    }
    pool_.ParallelFor(static_cast<int64_t>(part.size()),
                      [&](int64_t i, int thread) { Answer(part[i], logits_of(i), thread); });
  }
  return {results_.data(), batch.size()};
}

void CpuModelRunner::FindLogitRows() {
  logit_rows_.clear();
  for (size_t s = 0; s < batch_.sequences.size(); ++s) {
    const SequenceStep& sequence = batch_.sequences[s];
    for (size_t i = 0; i < sequence.tokens.size(); ++i) {
      const bool sampled = sequence.sampling != nullptr && i + 1 == sequence.tokens.size();
      if (!sampled && i >= sequence.targets.size() && observer_ == nullptr) continue;
      logit_rows_.push_back({batch_.first_rows[s] + static_cast<int64_t>(i),
                             static_cast<int32_t>(s), static_cast<int32_t>(i)});
    }
  }
}

void CpuModelRunner::Answer(const LogitRow& row, absl::Span<float> logits, int thread) {
  const SequenceStep& sequence = batch_.sequences[row.sequence];
  SequenceResult& result = results_[row.sequence];
  Sampler& sampler = samplers_[thread];
  if (static_cast<size_t>(row.token) < sequence.targets.size()) {
    result.prompt_logprobs[row.token] =
        sampler.Logprob(logits, sequence.targets[row.token], sequence.prompt_logprobs);
  }
  if (sequence.sampling == nullptr || static_cast<size_t>(row.token) + 1 != sequence.tokens.size())
    return;
  // The token takes the position after the row's.
  result.token = sampler.Sample(logits, *sequence.sampling, batch_.position[row.row] + 1,
                                {.history = sequence.history,
                                 .num_prompt_tokens = sequence.num_prompt_tokens,
                                 .suppressed = sequence.suppressed});
  if (sequence.logprobs.has_value())
    result.logprob = sampler.Logprob(logits, *result.token, *sequence.logprobs);
}

}  // namespace sluice::model
