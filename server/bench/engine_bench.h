// EngineBench: measures how fast a model runner computes prompts and generates answers, without
// scheduler and network.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "bench/step_work.h"
#include "model/config.h"
#include "model/model_runner.h"

namespace sluice::bench {

// Lengths are in tokens.
struct Workload {
  int prompt = 512;
  int generate = 64;
  // Sequences that generate at once.
  std::vector<int> batches = {1, 8, 32};
  // Tokens already in the KV cache when the measurement begins.
  std::vector<int> contexts = {0};
  // In place of `batches` at contexts above 0, where every sequence has to be filled first; empty:
  // the same.
  std::vector<int> context_batches;

  const std::vector<int>& batches_at(int context) const {
    return context > 0 && !context_batches.empty() ? context_batches : batches;
  }
  int max_batch() const;
};

// The workload fits into a context of `max_context` tokens; otherwise INVALID_ARGUMENT naming the
// flags.
absl::Status CheckFits(const Workload& workload, int64_t max_context);

// KV blocks that the workload needs.
int64_t NumKvBlocks(const Workload& workload);

struct Measurement {
  std::string phase;  // "prefill": one prompt; "decode": `batch` answers
  int context = 0;
  int batch = 1;
  int64_t tokens = 0;  // computed or generated while the time was taken
  int64_t steps = 0;
  double seconds = 0;
  StepWork work;
  // Bytes per second: the mean of what was measured just before and just after.
  double read_bandwidth = 0;
};

// Used by one thread. All tokens are random, drawn with a fixed seed: they go to experts as evenly
// as the model's router allows, and do not depend on what it generates.
class EngineBench {
 public:
  struct Options {
    model::ModelRunner* runner = nullptr;
    const model::ModelConfig* config = nullptr;
    StoredBytes stored;
    // Measures the machine's bandwidth, in bytes per second.
    std::function<double()> read_bandwidth = [] { return 0.0; };
    const base::Clock* clock = &base::Clock::System();
  };

  // REQUIRES: CheckFits; the runner has NumKvBlocks blocks and takes max_batch sequences a step.
  EngineBench(const Options& options, const Workload& workload);

  // One round: for each of `contexts`, which are among the workload's, in ascending order: a
  // prompt, then answers for each batch. The bandwidth is measured before, between and after, and
  // every measurement begins with an untimed step of the same kind.
  std::vector<Measurement> RunRound(std::vector<int> contexts);

 private:
  struct Sequence {
    std::vector<model::BlockId> blocks;
    // Positions before this one are in the cache. Measuring overwrites some of them with other
    // random tokens, which is as good.
    int computed = 0;
  };

  std::vector<TokenId> RandomTokens(int count);
  // Computes `count` tokens of a sequence from position `first`, in as many steps as it takes.
  void Prefill(const Sequence& sequence, int first, int count, Measurement* measured);
  // One token for each of the first `batch` sequences, at `position`.
  void DecodeStep(int batch, int position, Measurement* measured);
  // Adds to `measured`, if there is one.
  void RunStep(absl::Span<const model::SequenceStep> batch, Measurement* measured);
  // Puts `context` tokens into the cache of the first `count` sequences.
  void Fill(int count, int context);

  const Options options_;
  const Workload workload_;
  const model::SamplingParams greedy_;
  std::mt19937 random_{12345};
  std::vector<Sequence> sequences_;
};

}  // namespace sluice::bench
