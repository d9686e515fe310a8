#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/attention_kernel.h"
#include "kernels/reference.h"
#include "support/tolerance.h"
#include "test_kernels.h"

namespace sluice::kernels {
namespace {

constexpr int kKvHeads = 2;
constexpr int kKvHead = 1;

// One sequence's cache in scattered blocks. All else in it is NaN: blocks of others, the other
// head, and keys behind the sequence's last position; values there are zero, as their writer leaves
// them.
class Context {
 public:
  Context(KvFormat format, int head_dim, int64_t positions)
      : positions_(positions), num_blocks_(2 * ((positions + kKvBlock - 1) / kKvBlock) + 1) {
    view_ = {.block_stride = kKvHeads * 2 * KvBytes(format, head_dim),
             .head_dim = head_dim,
             .format = format};
    cache_ = AlignedBuffer<std::byte>(num_blocks_ * view_.block_stride);
    view_.data = cache_.data();
    std::fill_n(cache_.data(), cache_.size(), std::byte{0xff});  // NaN in both formats
    for (int64_t block = 0; block * kKvBlock < positions; ++block)
      table_.push_back(static_cast<int32_t>((block * 2 + 7) % num_blocks_));
    const std::vector<float> k = RandomFloats(positions * head_dim, 1);
    const std::vector<float> v = RandomFloats(positions * head_dim, 2);
    for (const int32_t block : table_)
      std::fill_n(view_.values(block, kKvHead), KvBytes(format, head_dim), std::byte{0});
    for (int64_t j = 0; j < positions; ++j) {
      const int32_t block = table_[j / kKvBlock];
      const int64_t slot = j % kKvBlock;
      for (int d = 0; d < head_dim; ++d) {
        Put(view_.keys(block, kKvHead), view_.KeyIndex(slot, d), k[j * head_dim + d]);
        Put(view_.values(block, kKvHead), view_.ValueIndex(slot, d), v[j * head_dim + d]);
      }
      // Half of a pair: an odd head's last keys have a zero beside them.
      if (head_dim % 2 != 0) Put(view_.keys(block, kKvHead), view_.KeyIndex(slot, head_dim), 0.0f);
    }
  }

  void PutKey(int64_t position, int channel, float value) {
    Put(view_.keys(table_[position / kKvBlock], kKvHead),
        view_.KeyIndex(position % kKvBlock, channel), value);
  }

  const PagedKvView& view() const { return view_; }
  const std::vector<int32_t>& table() const { return table_; }
  int64_t positions() const { return positions_; }

 private:
  void Put(std::byte* to, int64_t index, float value) const {
    if (view_.format == KvFormat::kF32) {
      std::memcpy(to + 4 * index, &value, sizeof(value));
    } else {
      const uint16_t bits = Bf16FromFloat(value);
      std::memcpy(to + 2 * index, &bits, sizeof(bits));
    }
  }

  int64_t positions_;
  int64_t num_blocks_;
  AlignedBuffer<std::byte> cache_;
  PagedKvView view_;
  std::vector<int32_t> table_;
};

// The last `tokens` of a context, `group` heads each.
struct Queries {
  Queries(const Context& context, int num_tokens, int heads, int64_t sees)
      : tokens(num_tokens),
        group(heads),
        window(sees),
        first_position(context.positions() - num_tokens),
        q(RandomFloats(int64_t{num_tokens} * heads * context.view().head_dim, 3)) {}

  int tokens;
  int group;
  int64_t window;
  int64_t first_position;
  std::vector<float> q;  // [tokens][group][head_dim]
};

float Scale(const Context& context) {
  return 1 / std::sqrt(static_cast<float>(context.view().head_dim));
}

// The results of tokens [first, last) of the queries, in one tile; its spans in one call, or each
// `apart` and then merged.
std::vector<float> RunKernel(const Context& context, const Queries& queries, int first, int last,
                             bool apart = false) {
  const AttentionKernel& kernel = *TestKernels().attention;
  const PagedKvView& kv = context.view();
  const int head_dim = kv.head_dim;
  const int64_t token_stride = int64_t{queries.group} * head_dim;
  const AttentionTile tile = {.format = kv.format,
                              .head = kv.keys(0, kKvHead),
                              .block_stride = kv.block_stride,
                              .values_offset = KvBytes(kv.format, head_dim),
                              .head_dim = head_dim,
                              .channels = kv.channels(),
                              .block_table = context.table().data(),
                              .q = queries.q.data() + first * token_stride,
                              .token_stride = token_stride,
                              .num_tokens = last - first,
                              .group = queries.group,
                              .first_position = queries.first_position + first,
                              .window = queries.window,
                              .scale = Scale(context)};
  const int64_t rows = tile.rows();
  const int64_t floats = AttentionPartialFloats(rows, tile.channels);
  AlignedBuffer<float> memory(rows * tile.channels);
  AlignedBuffer<float> span(floats), result(floats), next(floats);
  const AttentionScratch scratch = {memory.data(),
                                    AttentionPartialAt(span.data(), rows, tile.channels)};
  const AttentionPartial partial = AttentionPartialAt(result.data(), rows, tile.channels);
  const int64_t last_span = (queries.first_position + last - 1) / kAttentionSpan + 1;
  if (apart) {
    const AttentionPartial one = AttentionPartialAt(next.data(), rows, tile.channels);
    kernel.attend(tile, 0, 1, scratch, partial);
    for (int64_t s = 1; s < last_span; ++s) {
      kernel.attend(tile, s, s + 1, scratch, one);
      kernel.merge(rows, tile.channels, one, partial);
    }
  } else {
    kernel.attend(tile, 0, last_span, scratch, partial);
  }
  std::vector<float> out(rows * head_dim);
  for (int64_t row = 0; row < rows; ++row)
    kernel.finish(partial, row, tile.channels, head_dim, out.data() + row * head_dim);
  return out;
}

// How far a result may lie from the truth. A weight p / sum is off by a relative e^(2 s) - 1 if
// each score is off by at most s; a mix of values of magnitude V, by that times V.
//   in f32      s: a dot product of head_dim, its scaling and the exponential; and two sums over
//   the
//               context, of all weights and of the mix
//   bf16 pairs  s: in addition the query is rounded: kBf16Roundoff times the sum of the magnitudes
//               of the score's products; and each weight is
double Tolerance(const Context& context, const float* q, int64_t position, int64_t window) {
  const PagedKvView& kv = context.view();
  const bool pairs =
      kv.format == KvFormat::kBf16 && std::string(TestKernels().attention->name) == "avx512_bf16";
  double magnitude = 0;
  double value = 0;
  const int64_t first = std::max<int64_t>(0, position - window + 1);
  for (int64_t j = first; j <= position; ++j) {
    const int32_t block = context.table()[j / kKvBlock];
    double sum = 0;
    for (int d = 0; d < kv.head_dim; ++d) {
      sum += std::abs(double{q[d]} * kv.Key(block, kKvHead, j % kKvBlock, d));
      value = std::max(value, std::abs(double{kv.Value(block, kKvHead, j % kKvBlock, d)}));
    }
    magnitude = std::max(magnitude, sum * double{Scale(context)});
  }
  double score = testing::DotErrorBound(kv.head_dim + 4, magnitude) + 4 * testing::kF32Roundoff;
  double weight = testing::DotErrorBound(position - first + 1 + 16, 2);
  if (pairs) {
    score += testing::kBf16Roundoff * magnitude;
    weight += testing::kBf16Roundoff;
  }
  return (std::expm1(2 * score) + weight) * value;
}

struct Case {
  int head_dim;
  int64_t context;
  int tokens;
  int group;
  int64_t window = kMaxAttentionWindow;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const int head_dim : {1, 2, 6, 16, 33, 64, 80, 128, 256}) {
    for (const int64_t context : {1, 2, 15, 16, 17, 63, 64, 65, 130}) {
      cases.push_back({head_dim, context, 1, 1});
      cases.push_back({head_dim, context, static_cast<int>(std::min<int64_t>(context, 5)), 3});
    }
    for (const int64_t context : {511, 512, 513, 600, 1025, 1100})
      cases.push_back({head_dim, context, 2, 4});
  }
  for (int rows = 1; rows <= 40; ++rows) cases.push_back({16, 77, rows, 1});
  for (int group = 2; group <= 17; ++group) cases.push_back({32, 140, 3, group});
  for (const int64_t window : {1, 2, 5, 15, 16, 17, 63, 64, 65, 100, 512, 513, 700}) {
    cases.push_back({24, 1, 1, 2, window});
    cases.push_back({24, 90, 40, 1, window});
    cases.push_back({24, 1100, 37, 2, window});
  }
  return cases;
}

class AttentionTest : public ::testing::TestWithParam<KvFormat> {};

TEST_P(AttentionTest, AgreesWithTheReference) {
  for (const Case& c : Cases()) {
    const Context context(GetParam(), c.head_dim, c.context);
    const Queries queries(context, c.tokens, c.group, c.window);
    const std::vector<float> out = RunKernel(context, queries, 0, c.tokens);
    for (int row = 0; row < c.tokens * c.group; ++row) {
      const float* q = queries.q.data() + row * c.head_dim;
      const int64_t position = queries.first_position + row / c.group;
      const std::vector<float> expected =
          reference::Attend(context.view(), context.table(), kKvHead,
                            absl::MakeConstSpan(q, c.head_dim), position, c.window, Scale(context));
      const double tolerance = Tolerance(context, q, position, c.window);
      for (int d = 0; d < c.head_dim; ++d) {
        ASSERT_NEAR(out[row * c.head_dim + d], expected[d], tolerance)
            << "head_dim " << c.head_dim << ", context " << c.context << ", tokens " << c.tokens
            << ", group " << c.group << ", window " << c.window << ", row " << row;
      }
    }
  }
}

// Alone, in tiles of any size, with the spans in one go or apart: the same bits.
TEST_P(AttentionTest, ARowDoesNotDependOnItsTile) {
  for (const int head_dim : {6, 80, 128}) {
    for (const int64_t window : {int64_t{60}, int64_t{600}, kMaxAttentionWindow}) {
      for (const int64_t positions : {64, 530, 1100}) {
        const Context context(GetParam(), head_dim, positions);
        const Queries queries(context, 50, 3, window);
        const std::vector<float> whole = RunKernel(context, queries, 0, 50);
        for (const int step : {1, 2, 7, 33}) {
          for (const bool apart : {false, true}) {
            std::vector<float> parts;
            for (int first = 0; first < 50; first += step) {
              const std::vector<float> part =
                  RunKernel(context, queries, first, std::min(first + step, 50), apart);
              parts.insert(parts.end(), part.begin(), part.end());
            }
            ASSERT_EQ(std::memcmp(parts.data(), whole.data(), whole.size() * sizeof(float)), 0)
                << "head_dim " << head_dim << ", window " << window << ", positions " << positions
                << ", step " << step << ", apart " << apart;
          }
        }
      }
    }
  }
}

// Scores as far apart as floats allow: the largest alone counts, and nothing overflows.
TEST_P(AttentionTest, ExtremeScoresStayFinite) {
  const Context context(GetParam(), 16, 700);
  Queries queries(context, 1, 1, kMaxAttentionWindow);
  for (float& x : queries.q) x *= 1e6f;
  const std::vector<float> out = RunKernel(context, queries, 0, 1);
  const std::vector<float> expected =
      reference::Attend(context.view(), context.table(), kKvHead, queries.q, 699,
                        kMaxAttentionWindow, Scale(context));
  for (int d = 0; d < 16; ++d) EXPECT_EQ(out[d], expected[d]) << d;
}

TEST_P(AttentionTest, NaNInAQueryIsNotHidden) {
  const Context context(GetParam(), 16, 70);
  Queries queries(context, 2, 2, kMaxAttentionWindow);
  queries.q[16] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> out = RunKernel(context, queries, 0, 2);
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i / 16 == 1) << i;
}

// Alone in its span, on either side of the merge, and among others.
TEST_P(AttentionTest, NaNInAKeyIsNotHiddenByOtherSpans) {
  for (const int64_t position : {0, 511, 512}) {
    for (const int64_t window : {int64_t{2}, int64_t{kMaxAttentionWindow}}) {
      if (position < 513 - window) continue;  // not seen
      Context context(GetParam(), 16, 513);
      context.PutKey(position, 3, std::numeric_limits<float>::quiet_NaN());
      const Queries queries(context, 1, 2, window);
      for (const bool apart : {false, true}) {
        for (const float x : RunKernel(context, queries, 0, 1, apart))
          EXPECT_TRUE(std::isnan(x)) << "position " << position << ", window " << window;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, AttentionTest, ::testing::Values(KvFormat::kF32, KvFormat::kBf16),
                         [](const auto& param) { return KvFormatName(param.param); });

}  // namespace
}  // namespace sluice::kernels
