#include "model/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "kernels/reference.h"

namespace sluice::model {
namespace {

using kernels::KvFormat;

constexpr int kPositions = 1050;  // three spans of the context
constexpr int kHeads = 6;
constexpr int kKvHeads = 2;
constexpr int kHeadDim = 20;
constexpr int kQ = kHeads * kHeadDim;
constexpr int kQkv = (kHeads + 2 * kKvHeads) * kHeadDim;
constexpr int kMaxTokens = 300;

ModelConfig Config() {
  ModelConfig config;
  config.attention = {.num_heads = kHeads, .num_kv_heads = kKvHeads, .head_dim = kHeadDim};
  config.layers = {{}, {.sliding_window = 550}, {.sliding_window = 40}};
  return config;
}

std::vector<float> RandomRows(int rows, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(rows) * kQkv);
  for (float& value : values) value = normal(random);
  return values;
}

class AttentionTest : public ::testing::TestWithParam<KvFormat> {
 protected:
  // Attention on some threads over a cache whose blocks hold NaN, as if from other sequences.
  struct Machine {
    Machine(KvFormat format, int threads)
        : pool({.num_threads = threads}),
          kernels(*kernels::SelectKernels(kernels::WeightFormat::kF32)),
          compute(kernels, pool, {.max_rows = kMaxTokens, .max_k = kQ}),
          cache(*KvCache::Create(KvCache::Shape::Of(config, format),
                                 160 * KvCache::Shape::Of(config, format).block_bytes())),
          attention(*Attention::Create(config, compute, cache, 2048, kMaxTokens, 8)) {
      std::memset(cache.layer(0).data, 0xff, 160 * cache.shape().block_bytes());
      for (int block = 0; block < 160; ++block) blocks.push_back(block * 7 % 160);
    }

    const ModelConfig config = Config();
    base::ThreadPool pool;
    kernels::KernelSet kernels;
    kernels::Compute compute;
    KvCache cache;
    Attention attention;
    std::vector<BlockId> blocks;
    StepBatch batch;
  };

  // The results [kPositions, Q] of a sequence that takes `steps` tokens at a time, around and
  // around; every third step has another sequence in front of it.
  static std::vector<float> RunSteps(Machine& machine, int layer, const std::vector<int>& steps,
                                     bool company) {
    const std::vector<float> rows = RandomRows(kPositions, 1);
    const std::vector<float> others = RandomRows(kMaxTokens, 2);
    const std::vector<TokenId> tokens(kPositions);
    const absl::Span<const BlockId> blocks = machine.blocks;
    std::vector<float> results;
    int done = 0;
    int company_done = 0;
    for (size_t i = 0; done < kPositions; ++i) {
      const int count = std::min(steps[i % steps.size()], kPositions - done);
      std::vector<SequenceStep> batch;
      std::vector<float> qkv;
      if (company && i % 3 == 0) {
        batch.push_back({.tokens = absl::MakeConstSpan(tokens).first(7),
                         .first_position = company_done,
                         .block_table = blocks.subspan(80)});
        company_done = (company_done + 7) % 1200;
        qkv.insert(qkv.end(), others.begin(), others.begin() + 7 * kQkv);
      }
      const size_t before = qkv.size() / kQkv;
      batch.push_back({.tokens = absl::MakeConstSpan(tokens).first(count),
                       .first_position = done,
                       .block_table = blocks.first((done + count + 15) / 16)});
      qkv.insert(qkv.end(), rows.begin() + done * kQkv, rows.begin() + (done + count) * kQkv);
      std::vector<float> out(qkv.size() / kQkv * kQ);
      machine.batch.Assign(batch);
      machine.attention.BeginStep(machine.batch);
      machine.attention.StoreKeysAndValues(layer, LayerWeights(), qkv.data());
      machine.attention.Attend(layer, qkv.data(), out.data());
      results.insert(results.end(), out.begin() + before * kQ, out.end());
      done += count;
    }
    return results;
  }
};

// However a sequence is cut into steps, whoever is beside it, on one thread or with its spans apart
// on several: the same bits, and no trace of the NaN that the blocks held.
TEST_P(AttentionTest, StepsBatchesAndThreadsChangeNoBit) {
  for (int layer = 0; layer < 3; ++layer) {
    Machine one(GetParam(), 1);
    const std::vector<float> expected = RunSteps(one, layer, {250}, false);
    for (const float value : expected) ASSERT_TRUE(std::isfinite(value));
    const std::vector<std::vector<int>> schedules = {{97, 1, 1}, {kMaxTokens - 7}, {3, 64}};
    for (const std::vector<int>& steps : schedules) {
      for (const int threads : {1, 4}) {
        Machine machine(GetParam(), threads);
        const std::vector<float> actual = RunSteps(machine, layer, steps, threads > 1);
        ASSERT_EQ(std::memcmp(actual.data(), expected.data(), expected.size() * sizeof(float)), 0)
            << "layer " << layer << ", steps of " << steps[0] << ", threads " << threads;
      }
    }
  }
}

// What was written is what is read: the reference over the cache gives the same. Position 0 is not
// rotated, so its keys and values are in the cache as they were given, but for rounding.
TEST_P(AttentionTest, WritesAndReadsTheSamePlaces) {
  Machine machine(GetParam(), 2);
  const double roundoff = GetParam() == KvFormat::kF32 ? 0 : 0x1p-8;
  std::vector<float> rows = RandomRows(kMaxTokens, 1);
  const std::vector<float> given = rows;
  const std::vector<TokenId> tokens(kMaxTokens);
  const SequenceStep step = {.tokens = tokens, .block_table = machine.blocks};
  machine.batch.Assign({&step, 1});
  machine.attention.BeginStep(machine.batch);
  machine.attention.StoreKeysAndValues(1, LayerWeights(), rows.data());
  std::vector<float> out(kMaxTokens * kQ);
  machine.attention.Attend(1, rows.data(), out.data());
  const kernels::PagedKvView kv = machine.cache.layer(1);
  for (int position = 0; position < kMaxTokens; ++position) {
    const int32_t block = machine.blocks[position / 16];
    for (int i = 0; i < kKvHeads * kHeadDim; ++i) {
      const float k = rows[position * kQkv + kQ + i];
      const float v = given[position * kQkv + kQ + kKvHeads * kHeadDim + i];
      const int head = i / kHeadDim;
      ASSERT_NEAR(kv.Key(block, head, position % 16, i % kHeadDim), k, roundoff * std::abs(k));
      ASSERT_NEAR(kv.Value(block, head, position % 16, i % kHeadDim), v, roundoff * std::abs(v));
      if (position == 0) {
        ASSERT_EQ(k, given[kQ + i]);
      }
    }
    for (int head = 0; head < kHeads; ++head) {
      const std::vector<float> expected = kernels::reference::Attend(
          kv, machine.blocks, head / (kHeads / kKvHeads),
          absl::MakeConstSpan(rows).subspan(position * kQkv + head * kHeadDim, kHeadDim), position,
          550, 1 / std::sqrt(static_cast<float>(kHeadDim)));
      // The kernels' own tests bound this closely; a wrong place is off by about 1.
      for (int d = 0; d < kHeadDim; ++d)
        ASSERT_NEAR(out[position * kQ + head * kHeadDim + d], expected[d], 1e-5 + 16 * roundoff);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, AttentionTest, ::testing::Values(KvFormat::kF32, KvFormat::kBf16),
                         [](const auto& param) { return KvFormatName(param.param); });

}  // namespace
}  // namespace sluice::model
