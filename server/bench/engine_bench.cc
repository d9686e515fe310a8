#include "bench/engine_bench.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace sluice::bench {
namespace {

int BlocksFor(int tokens) { return (tokens + model::kKvBlockTokens - 1) / model::kKvBlockTokens; }

int Max(const std::vector<int>& numbers) {
  return *std::max_element(numbers.begin(), numbers.end());
}

// The most tokens that the index-th sequence has at a time; prompts are the first one's alone.
int LengthOf(const Workload& workload, int index) {
  int length = 0;
  for (const int context : workload.contexts) {
    if (index == 0) length = std::max(length, context + workload.prompt);
    if (index < Max(workload.batches_at(context)))
      length = std::max(length, context + workload.generate);
  }
  return length;
}

}  // namespace

int Workload::max_batch() const {
  int most = 0;
  for (const int context : contexts) most = std::max(most, Max(batches_at(context)));
  return most;
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

int64_t NumKvBlocks(const Workload& workload) {
  int64_t blocks = 0;
  for (int i = 0; i < workload.max_batch(); ++i) blocks += BlocksFor(LengthOf(workload, i));
  return blocks;
}

EngineBench::EngineBench(const Options& options, const Workload& workload)
    : options_(options), workload_(workload) {
  CHECK(options_.runner->num_kv_blocks() >= NumKvBlocks(workload));
  CHECK(options_.runner->max_step_sequences() >= workload.max_batch());
  CHECK(options_.runner->max_step_tokens() >= workload.max_batch());
  model::BlockId next_block = 0;
  for (int i = 0; i < workload.max_batch(); ++i) {
    Sequence& sequence = sequences_.emplace_back();
    sequence.blocks.resize(BlocksFor(LengthOf(workload, i)));
    for (model::BlockId& block : sequence.blocks) block = next_block++;
  }
}

std::vector<TokenId> EngineBench::RandomTokens(int count) {
  std::uniform_int_distribution<TokenId> token(0, options_.config->vocab_size - 1);
  std::vector<TokenId> tokens(count);
  for (TokenId& id : tokens) id = token(random_);
  return tokens;
}

void EngineBench::RunStep(absl::Span<const model::SequenceStep> batch, Measurement* measured) {
  const absl::Time start = options_.clock->Now();
  options_.runner->Run(batch);
  const absl::Duration time = options_.clock->Now() - start;
  if (measured == nullptr) return;
  ++measured->steps;
  measured->seconds += absl::ToDoubleSeconds(time);
  measured->work +=
      WorkOf(*options_.config, options_.stored, batch, options_.runner->expert_load());
}

void EngineBench::Prefill(const Sequence& sequence, int first, int count, Measurement* measured) {
  const std::vector<TokenId> tokens = RandomTokens(count);
  for (int done = 0; done < count;) {
    const int now = std::min(count - done, options_.runner->max_step_tokens());
    model::SequenceStep step;
    step.tokens = absl::MakeConstSpan(tokens).subspan(done, now);
    step.first_position = first + done;
    step.block_table = sequence.blocks;
    done += now;
    if (done == count) step.sampling = &greedy_;
    RunStep({&step, 1}, measured);
  }
}

void EngineBench::DecodeStep(int batch, int position, Measurement* measured) {
  const std::vector<TokenId> tokens = RandomTokens(batch);
  std::vector<model::SequenceStep> steps(batch);
  for (int i = 0; i < batch; ++i) {
    steps[i].tokens = absl::MakeConstSpan(tokens).subspan(i, 1);
    steps[i].first_position = position;
    steps[i].block_table = sequences_[i].blocks;
    steps[i].sampling = &greedy_;
  }
  RunStep(steps, measured);
}

void EngineBench::Fill(int count, int context) {
  for (int i = 0; i < count; ++i) {
    Sequence& sequence = sequences_[i];
    if (sequence.computed >= context) continue;
    Prefill(sequence, sequence.computed, context - sequence.computed, nullptr);
    sequence.computed = context;
  }
}

std::vector<Measurement> EngineBench::RunRound(std::vector<int> contexts) {
  // Ascending, so that what a context needs in the cache is computed once.
  std::sort(contexts.begin(), contexts.end());
  std::vector<Measurement> measurements;
  double bandwidth = options_.read_bandwidth();
  const auto finish = [&](Measurement measured) {
    const double after = options_.read_bandwidth();
    measured.read_bandwidth = (bandwidth + after) / 2;
    bandwidth = after;
    measurements.push_back(std::move(measured));
  };
  for (const int context : contexts) {
    Fill(1, context);
    Measurement prefill{
        .phase = "prefill", .context = context, .batch = 1, .tokens = workload_.prompt};
    Prefill(sequences_[0], context, std::min(workload_.prompt, options_.runner->max_step_tokens()),
            nullptr);
    Prefill(sequences_[0], context, workload_.prompt, &prefill);
    finish(std::move(prefill));
    for (const int batch : workload_.batches_at(context)) {
      Fill(batch, context);
      Measurement decode{.phase = "decode",
                         .context = context,
                         .batch = batch,
                         .tokens = int64_t{batch} * workload_.generate};
      DecodeStep(batch, context, nullptr);
      for (int i = 0; i < workload_.generate; ++i) DecodeStep(batch, context + i, &decode);
      finish(std::move(decode));
    }
  }
  return measurements;
}

}  // namespace sluice::bench
