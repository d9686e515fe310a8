// CpuModelRunner: a ModelRunner that computes on this machine's processors. Owns everything a step
// needs: threads, kernels, weights and KV cache.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/thread_pool.h"
#include "kernels/compute.h"
#include "kernels/kernel_set.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/model_runner.h"
#include "model/sampler.h"
#include "model/step_batch.h"
#include "model/transformer.h"
#include "model/weights.h"

namespace sluice::model {

// Create may be called from any thread; everything else from one at a time (the engine's).
class CpuModelRunner : public ModelRunner {
 public:
  struct Options {
    kernels::WeightFormat weights = kernels::WeightFormat::kF32;
    int num_threads = 1;                               // the caller of Run among them
    int64_t kv_cache_bytes = 0;                        // at least one block
    std::optional<kernels::KvFormat> kv_cache_format;  // DefaultKvFormat(weights) if not set
    int max_step_tokens = 512;                         // at least 1
    int max_step_sequences = 64;                       // at least 1
    bool pin = false;  // pin the threads to processors, the caller of Run too
  };

  // For the log, the metrics and GetServerInfo.
  struct LoadInfo {
    double seconds = 0;
    WeightsSize weights;
    // One line for each kernel chosen or declined.
    std::vector<std::string> kernels;
    std::string isa;
    int num_kv_blocks = 0;
    int64_t kv_block_bytes = 0;
    kernels::KvFormat kv_cache_format = kernels::KvFormat::kBf16;
  };

  // Packs the weights and makes every kernel. The checkpoint is not needed afterwards.
  //   INVALID_ARGUMENT     an option is out of range
  //   FAILED_PRECONDITION  there is no kernel for the weights on this processor (kernel_set.h)
  //   RESOURCE_EXHAUSTED   no address space for the weights or the KV cache
  static absl::StatusOr<std::unique_ptr<CpuModelRunner>> Create(const Checkpoint& checkpoint,
                                                                const Options& options);

  const LoadInfo& load_info() const { return load_info_; }
  const ModelConfig& config() const { return config_; }

  // Called back from within each Run, on its thread; null (the start) for none. With an observer
  // logits are computed for all rows.
  void set_observer(StepObserver* observer) { observer_ = observer; }

  int num_kv_blocks() const override { return cache_.num_blocks(); }
  int max_step_tokens() const override { return options_.max_step_tokens; }
  int max_step_sequences() const override { return options_.max_step_sequences; }
  absl::Span<const SequenceResult> Run(absl::Span<const SequenceStep> batch) override;
  void CopyBlock(BlockId from, BlockId to) override { cache_.CopyBlock(from, to); }
  ExpertStepLoad expert_load() const override { return transformer_->expert_load(); }

 private:
  // A row whose logits are wanted.
  struct LogitRow {
    int64_t row;
    int32_t sequence;
    int32_t token;  // its place among the sequence's tokens
  };

  CpuModelRunner(const Checkpoint& checkpoint, const Options& options, kernels::KernelSet kernels,
                 KvCache cache);

  void FindLogitRows();
  // Samples and reports what the row's sequence wants there.
  void Answer(const LogitRow& row, absl::Span<float> logits, int thread);

  const Options options_;
  const ModelConfig config_;
  kernels::KernelSet kernels_;
  base::ThreadPool pool_;
  KvCache cache_;
  Weights weights_;
  std::unique_ptr<kernels::Compute> compute_;
  std::unique_ptr<Transformer> transformer_;
  std::vector<Sampler> samplers_;  // one for each thread
  LoadInfo load_info_;
  StepObserver* observer_ = nullptr;

  StepBatch batch_;
  std::vector<LogitRow> logit_rows_;
  std::vector<int64_t> rows_;
  std::vector<SequenceResult> results_;
};

}  // namespace sluice::model
