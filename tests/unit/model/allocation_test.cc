// A step in full swing allocates nothing: every allocation of this program is counted. With the
// reference kernels, since oneDNN's brgemm call makes a short list of its arguments each time.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include "model/cpu_model_runner.h"
#include "support/random_checkpoint.h"

namespace {

std::atomic<int64_t> allocations{0};

void* Allocate(std::size_t size, std::size_t alignment) {
  ++allocations;
  void* p = nullptr;
  if (posix_memalign(&p, alignment, size) != 0) throw std::bad_alloc();
  return p;
}

}  // namespace

// The compiler sees malloc and free behind some of the replacements, and the library's operators
// behind others.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

void* operator new(std::size_t size) { return Allocate(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return Allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace sluice::model {
namespace {

// Everything that a request can ask for but log-probabilities, which are part of the result.
SamplingParams AllOptions() {
  return {.logit_bias = {{1, 2.0f}, {99, -3.0f}},
          .repetition_penalty = 1.2f,
          .presence_penalty = 0.5f,
          .frequency_penalty = 0.25f,
          .temperature = 0.9f,
          .top_k = 80,
          .top_p = 0.98f,
          .min_p = 0.001f,
          .typical_p = 0.9f,
          .seed = 3};
}

TEST(AllocationTest, StepsAllocateNothing) {
  setenv("SLUICE_KERNELS", "reference", /*overwrite=*/1);
  for (const kernels::WeightFormat format : kernels::kAllWeightFormats) {
    SCOPED_TRACE(kernels::NameOf(format));
    const testing::RandomCheckpoint checkpoint(testing::SmallModelConfig(), DType::kF32, 1);
    const auto runner = CpuModelRunner::Create(checkpoint, {.weights = format,
                                                            .num_threads = 2,
                                                            .kv_cache_bytes = 1 << 22,
                                                            .max_step_tokens = 64,
                                                            .max_step_sequences = 8});
    ASSERT_TRUE(runner.ok()) << runner.status();
    const std::vector<TokenId> prompt(40, 7);
    const SamplingParams greedy;
    const SamplingParams all_options = AllOptions();
    const std::vector<TokenId> suppressed = {4, 5};
    std::vector<std::vector<BlockId>> blocks;
    for (int s = 0; s < 8; ++s) blocks.push_back({4 * s, 4 * s + 1, 4 * s + 2, 4 * s + 3});
    std::vector<SequenceStep> batch;
    for (int s = 0; s < 8; ++s)
      batch.push_back({.tokens = absl::MakeConstSpan(prompt).first(1),
                       .block_table = blocks[s],
                       .sampling = s % 2 == 0 ? &greedy : &all_options,
                       .history = prompt,
                       .num_prompt_tokens = 30,
                       .suppressed = suppressed});
    // A first step lets every thread set itself up; the second has the batch at its largest.
    (*runner)->Run(batch);
    const int64_t before = allocations;
    for (int position = 1; position < 20; ++position) {
      for (SequenceStep& step : batch) step.first_position = position;
      (*runner)->Run(batch);
    }
    const SequenceStep whole = {.tokens = prompt, .block_table = blocks[0], .sampling = &greedy};
    (*runner)->Run({&whole, 1});
    EXPECT_EQ(allocations, before);
  }
}

}  // namespace
}  // namespace sluice::model
