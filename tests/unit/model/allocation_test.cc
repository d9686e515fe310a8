// A step in full swing allocates nothing, whatever it samples with: every allocation of this
// program is counted. Runs with the kernels of SLUICE_KERNELS, or the machine's best, in the
// formats that they multiply without oneDNN: its brgemm call makes a short list of its arguments
// each time (f32 and bf16 weights, and int8 on processors where kernel_set.h says so).
// Log-probabilities are not asked for: they are handed over in vectors of their own.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "kernels/kernel_set.h"
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

constexpr int kSequences = 9;

// Every way to sample.
const SamplingParams kSampling[kSequences] = {
    {},
    {.temperature = 1, .seed = 1},
    {.temperature = 1, .top_k = 20, .seed = 2},
    {.temperature = 1, .top_p = 0.9f, .seed = 3},
    {.temperature = 1, .min_p = 0.05f, .seed = 4},
    {.temperature = 0.7f, .top_k = 40, .top_p = 0.95f, .min_p = 0.02f, .seed = 5},
    {.temperature = 100, .top_p = 0.999f, .seed = 6},  // thousands of tokens to reach top_p
    {.temperature = 100, .top_k = 3000, .top_p = 0.5f, .seed = 7},
    {.logit_bias = {{1, 2.0f}, {99, -3.0f}},
     .repetition_penalty = 1.2f,
     .presence_penalty = 0.5f,
     .frequency_penalty = 0.25f,
     .temperature = 0.9f,
     .top_k = 80,
     .top_p = 0.98f,
     .min_p = 0.001f,
     .typical_p = 0.9f,
     .seed = 8},
};

class AllocationTest : public ::testing::TestWithParam<kernels::WeightFormat> {};

TEST_P(AllocationTest, StepsAllocateNothing) {
  const kernels::WeightFormat format = GetParam();
  const auto kernels = kernels::SelectKernels(format);
  if (absl::IsFailedPrecondition(kernels.status())) GTEST_SKIP() << kernels.status();
  ASSERT_TRUE(kernels.ok()) << kernels.status();
  if (absl::StrContains(kernels->matmul(format).name(), "onednn"))
    GTEST_SKIP() << kernels->matmul(format).name() << " allocates in each call";
  EXPECT_FALSE(absl::StrContains(kernels->f32->name(), "onednn"));

  ModelConfig config = testing::SmallModelConfig();
  config.vocab_size = 5000;
  const testing::RandomCheckpoint checkpoint(config, DType::kF32, 1);
  const auto runner = CpuModelRunner::Create(checkpoint, {.weights = format,
                                                          .num_threads = 2,
                                                          .kv_cache_bytes = 1 << 22,
                                                          .max_step_tokens = 64,
                                                          .max_step_sequences = kSequences});
  ASSERT_TRUE(runner.ok()) << runner.status();
  const std::vector<TokenId> prompt(40, 7);
  const std::vector<TokenId> suppressed = {4, 5};
  std::vector<std::vector<BlockId>> blocks;
  for (int s = 0; s < kSequences; ++s) blocks.push_back({4 * s, 4 * s + 1, 4 * s + 2, 4 * s + 3});
  std::vector<SequenceStep> batch;
  for (int s = 0; s < kSequences; ++s)
    batch.push_back({.tokens = absl::MakeConstSpan(prompt).first(1),
                     .block_table = blocks[s],
                     .sampling = &kSampling[s],
                     .history = prompt,
                     .num_prompt_tokens = 30,
                     .suppressed = suppressed});
  // A first step lets every thread set itself up.
  (*runner)->Run(batch);
  const int64_t before = allocations;
  for (int position = 1; position < 20; ++position) {
    for (SequenceStep& step : batch) step.first_position = position;
    (*runner)->Run(batch);
  }
  for (const SamplingParams& sampling : kSampling) {
    const SequenceStep whole = {.tokens = prompt,
                                .block_table = blocks[0],
                                .sampling = &sampling,
                                .history = prompt,
                                .num_prompt_tokens = 40};
    (*runner)->Run({&whole, 1});
  }
  EXPECT_EQ(allocations, before);
}

INSTANTIATE_TEST_SUITE_P(Formats, AllocationTest, ::testing::ValuesIn(kernels::kAllWeightFormats),
                         [](const auto& param) { return kernels::NameOf(param.param); });

}  // namespace
}  // namespace sluice::model
