#include "bench/engine_bench.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace sluice::bench {
namespace {

int BlocksFor(int tokens) { return (tokens + model::kKvBlockTokens - 1) / model::kKvBlockTokens; }

}  // namespace

int Workload::max_batch() const { return *std::max_element(batches.begin(), batches.end()); }

int Workload::max_length() const {
  return *std::max_element(contexts.begin(), contexts.end()) + std::max(prompt, generate);
}

absl::Status CheckFits(const Workload& workload, int64_t max_context) {
  for (const int context : workload.contexts) {
    for (const auto& [flag, count] :
         {std::pair("--prompt", workload.prompt), std::pair("--generate", workload.generate)}) {
      if (int64_t{context} + count > max_context) {
        return absl::InvalidArgumentError(absl::StrCat(
            "--context=", context, " and ", flag, "=", count, " make ", int64_t{context} + count,
            " tokens, but the model's context is ", max_context));
      }
    }
  }
  return absl::OkStatus();
}

int NumKvBlocks(const Workload& workload) {
  return workload.max_batch() * BlocksFor(workload.max_length());
}

std::vector<TokenId> EngineBench::RandomTokens(int count) {
  std::uniform_int_distribution<TokenId> token(0, options_.config->vocab_size - 1);
  std::vector<TokenId> tokens(count);
  for (TokenId& id : tokens) id = token(random_);
  return tokens;
}

EngineBench::Timed EngineBench::RunStep(absl::Span<const model::SequenceStep> batch) {
  const absl::Time start = options_.clock->Now();
  options_.runner->Run(batch);
  const absl::Duration time = options_.clock->Now() - start;
  return {.seconds = absl::ToDoubleSeconds(time),
          .work = WorkOf(*options_.config, options_.bytes_per_weight, batch,
                         options_.runner->expert_load())};
}

EngineBench::Timed EngineBench::Prefill(const Sequence& sequence, int first, int count) {
  const std::vector<TokenId> tokens = RandomTokens(count);
  Timed sum;
  for (int done = 0; done < count;) {
    const int now = std::min(count - done, options_.runner->max_step_tokens());
    model::SequenceStep step;
    step.tokens = absl::MakeConstSpan(tokens).subspan(done, now);
    step.first_position = first + done;
    step.block_table = sequence.blocks;
    done += now;
    if (done == count) step.sampling = &greedy_;
    const Timed timed = RunStep({&step, 1});
    sum.seconds += timed.seconds;
    sum.work += timed.work;
  }
  return sum;
}

EngineBench::Timed EngineBench::DecodeStep(const std::vector<Sequence>& sequences, int batch,
                                           int position) {
  const std::vector<TokenId> tokens = RandomTokens(batch);
  std::vector<model::SequenceStep> steps(batch);
  for (int i = 0; i < batch; ++i) {
    steps[i].tokens = absl::MakeConstSpan(tokens).subspan(i, 1);
    steps[i].first_position = position;
    steps[i].block_table = sequences[i].blocks;
    steps[i].sampling = &greedy_;
  }
  return RunStep(steps);
}

std::vector<Measurement> EngineBench::Run(const Workload& workload) {
  CHECK(options_.runner->num_kv_blocks() >= NumKvBlocks(workload));
  CHECK(options_.runner->max_step_sequences() >= workload.max_batch());
  CHECK(options_.runner->max_step_tokens() >= workload.max_batch());
  std::vector<Sequence> sequences(workload.max_batch());
  model::BlockId next_block = 0;
  for (Sequence& sequence : sequences) {
    sequence.blocks.resize(BlocksFor(workload.max_length()));
    for (model::BlockId& block : sequence.blocks) block = next_block++;
  }
  const auto fill = [&](Sequence& sequence, int context) {
    if (sequence.computed >= context) return;
    Prefill(sequence, sequence.computed, context - sequence.computed);
    sequence.computed = context;
  };

  // Ascending, so that what a context needs in the cache is computed once: measuring overwrites
  // only what lies behind it.
  std::vector<int> contexts = workload.contexts;
  std::sort(contexts.begin(), contexts.end());
  std::vector<Measurement> measurements;
  for (const int context : contexts) {
    fill(sequences[0], context);
    Prefill(sequences[0], context, std::min(workload.prompt, options_.runner->max_step_tokens()));
    const Timed prefill = Prefill(sequences[0], context, workload.prompt);
    measurements.push_back({.phase = "prefill",
                            .context = context,
                            .batch = 1,
                            .tokens = workload.prompt,
                            .seconds = prefill.seconds,
                            .work = prefill.work});
    for (const int batch : workload.batches) {
      for (int i = 0; i < batch; ++i) fill(sequences[i], context);
      Measurement decode{.phase = "decode",
                         .context = context,
                         .batch = batch,
                         .tokens = int64_t{batch} * workload.generate};
      DecodeStep(sequences, batch, context);
      for (int i = 0; i < workload.generate; ++i) {
        const Timed step = DecodeStep(sequences, batch, context + i);
        decode.seconds += step.seconds;
        decode.work += step.work;
      }
      measurements.push_back(std::move(decode));
    }
  }
  return measurements;
}

}  // namespace sluice::bench
