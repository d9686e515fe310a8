// EngineBench: measures how fast a model runner computes prompts and generates answers, without
// scheduler and network.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
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

  int max_batch() const;
  // The longest sequence: the longest context and what comes after it.
  int max_length() const;
};

// The workload fits into a context of `max_context` tokens; otherwise INVALID_ARGUMENT naming the
// flags.
absl::Status CheckFits(const Workload& workload, int64_t max_context);

// KV blocks that the workload needs.
int NumKvBlocks(const Workload& workload);

struct Measurement {
  std::string phase;  // "prefill": one prompt; "decode": `batch` answers
  int context = 0;
  int batch = 1;
  int64_t tokens = 0;  // computed or generated while the time was taken
  double seconds = 0;
  StepWork work;
};

// Used by one thread. All tokens are random, drawn with a fixed seed: they go to experts as evenly
// as the model's router allows, and do not depend on what it generates.
class EngineBench {
 public:
  struct Options {
    model::ModelRunner* runner = nullptr;
    const model::ModelConfig* config = nullptr;
    double bytes_per_weight = 4;
    const base::Clock* clock = &base::Clock::System();
  };

  explicit EngineBench(const Options& options) : options_(options) {}

  // For each context, ascending: a prompt, then answers for each batch. Every measurement is
  // preceded by an untimed step of the same kind.
  // REQUIRES: CheckFits; the runner has NumKvBlocks blocks and takes max_batch sequences a step.
  std::vector<Measurement> Run(const Workload& workload);

 private:
  // What a sequence has in the cache: positions before `computed`.
  struct Sequence {
    std::vector<model::BlockId> blocks;
    int computed = 0;
  };
  struct Timed {
    double seconds = 0;
    StepWork work;
  };

  std::vector<TokenId> RandomTokens(int count);
  // Computes `count` tokens of a sequence from position `first`, in as many steps as it takes.
  Timed Prefill(const Sequence& sequence, int first, int count);
  // One token for each of the first `batch` sequences, at `position`.
  Timed DecodeStep(const std::vector<Sequence>& sequences, int batch, int position);
  Timed RunStep(absl::Span<const model::SequenceStep> batch);

  const Options options_;
  const model::SamplingParams greedy_;
  std::mt19937 random_{12345};
};

}  // namespace sluice::bench
