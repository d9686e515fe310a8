#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention_kernel.h"
#include "kernels/reference.h"

namespace sluice::kernels::reference {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// The element of a block's keys or values that PagedKvView's index names.
float At(const AttentionTile& tile, const std::byte* numbers, int64_t index) {
  return LoadElement(tile.format == KvFormat::kF32 ? ElementType::kF32 : ElementType::kBf16,
                     numbers, index);
}

void AttendSpan(const AttentionTile& tile, int64_t span, const AttentionPartial& partial) {
  const PagedKvView layout = {.head_dim = tile.head_dim, .format = tile.format};
  for (int64_t row = 0; row < tile.rows(); ++row) {
    const int64_t position = tile.first_position + row / tile.group;
    const float* q =
        tile.q + row / tile.group * tile.token_stride + row % tile.group * tile.head_dim;
    const int64_t first = std::max(span * kAttentionSpan, position - tile.window + 1);
    const int64_t last = std::min((span + 1) * kAttentionSpan, position + 1);
    float scores[kAttentionSpan];
    float max = kMinusInfinity;
    for (int64_t j = first; j < last; ++j) {
      const std::byte* keys = tile.head + tile.block_table[j / kKvBlock] * tile.block_stride;
      double score = 0;
      for (int d = 0; d < tile.head_dim; ++d)
        score += double{q[d]} * At(tile, keys, layout.KeyIndex(j % kKvBlock, d));
      scores[j - first] = static_cast<float>(score * tile.scale);
      max = std::max(max, scores[j - first]);
    }
    float* values = partial.values + row * tile.channels;
    float* sums = partial.sum + row * kAttentionLanes;
    std::fill_n(values, tile.channels, 0.0f);
    std::fill_n(sums, kAttentionLanes, 0.0f);
    partial.max[row] = max;
    double sum = 0;
    double weights[kAttentionSpan];
    for (int64_t j = first; j < last; ++j) {
      weights[j - first] = std::exp(double{scores[j - first]} - max);
      sum += weights[j - first];
    }
    sums[0] = static_cast<float>(sum);
    for (int d = 0; d < tile.head_dim && first < last; ++d) {
      double mixed = 0;
      for (int64_t j = first; j < last; ++j) {
        const std::byte* block = tile.head + tile.block_table[j / kKvBlock] * tile.block_stride;
        mixed += weights[j - first] *
                 At(tile, block + tile.values_offset, layout.ValueIndex(j % kKvBlock, d));
      }
      values[d] = static_cast<float>(mixed);
    }
  }
}

void Merge(int64_t rows, int channels, const AttentionPartial& from, const AttentionPartial& into) {
  for (int64_t r = 0; r < rows; ++r) {
    // Where nothing was seen sums are zero, and NaN where all that was seen is.
    const float max = std::max(from.max[r], into.max[r]);
    const double old_factor = into.max[r] == max ? 1 : std::exp(double{into.max[r]} - max);
    const double factor = from.max[r] == max ? 1 : std::exp(double{from.max[r]} - max);
    const auto add = [&](const float* x, float* y, int64_t n) {
      for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(y[i] * old_factor + x[i] * factor);
    };
    into.max[r] = max;
    add(from.sum + r * kAttentionLanes, into.sum + r * kAttentionLanes, kAttentionLanes);
    add(from.values + r * channels, into.values + r * channels, channels);
  }
}

void AttendSpans(const AttentionTile& tile, int64_t first_span, int64_t last_span,
                 const AttentionScratch& scratch, const AttentionPartial& result) {
  AttendSpan(tile, first_span, result);
  for (int64_t span = first_span + 1; span < last_span; ++span) {
    AttendSpan(tile, span, scratch.span);
    Merge(tile.rows(), tile.channels, scratch.span, result);
  }
}

void Finish(const AttentionPartial& partial, int64_t row, int channels, int head_dim, float* out) {
  for (int d = 0; d < head_dim; ++d)
    out[d] = partial.values[row * channels + d] / partial.sum[row * kAttentionLanes];
}

}  // namespace

const AttentionKernel& ReferenceAttention() {
  static constexpr AttentionKernel kKernel = {"reference", AttendSpans, Merge, Finish};
  return kKernel;
}

std::vector<float> Attend(const PagedKvView& kv, absl::Span<const int32_t> block_table, int kv_head,
                          absl::Span<const float> q, int64_t position, int64_t window,
                          float scale) {
  const int64_t first = std::max<int64_t>(0, position - window + 1);
  std::vector<float> scores;
  for (int64_t j = first; j <= position; ++j) {
    double sum = 0;
    for (int d = 0; d < kv.head_dim; ++d)
      sum += double{q[d]} * kv.Key(block_table[j / kKvBlock], kv_head, j % kKvBlock, d);
    scores.push_back(static_cast<float>(sum * scale));
  }
  Softmax(absl::MakeSpan(scores));
  std::vector<double> sums(kv.head_dim, 0);
  for (int64_t j = first; j <= position; ++j) {
    for (int d = 0; d < kv.head_dim; ++d)
      sums[d] +=
          double{scores[j - first]} * kv.Value(block_table[j / kKvBlock], kv_head, j % kKvBlock, d);
  }
  return std::vector<float>(sums.begin(), sums.end());
}

}  // namespace sluice::kernels::reference
