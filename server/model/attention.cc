#include "model/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace sluice::model {
namespace {

// Query vectors (rows times the heads of a group) that meet one block of keys while it is in the
// first-level cache.
constexpr int64_t kTileQueries = 64;

// RMSNorm over each `size` elements with the same weight, or over all of them if it covers them.
void Normalize(const kernels::VectorOps& ops, const std::vector<float>& weight, float eps, float* x,
               int64_t n) {
  const int64_t size = static_cast<int64_t>(weight.size());
  for (int64_t i = 0; i < n; i += size) ops.rms_norm(x + i, weight.data(), eps, x + i, size);
}

}  // namespace

absl::StatusOr<Attention> Attention::Create(const ModelConfig& config, kernels::Compute& compute,
                                            KvCache& cache, int64_t max_positions,
                                            int max_step_tokens, int max_step_sequences) {
  ASSIGN_OR_RETURN(RopeTable rope, RopeTable::Create(config.attention.rope,
                                                     config.attention.head_dim, max_positions));
  return Attention(config, compute, cache, std::move(rope), max_step_tokens, max_step_sequences);
}

Attention::Attention(const ModelConfig& config, kernels::Compute& compute, KvCache& cache,
                     RopeTable rope, int max_step_tokens, int max_step_sequences)
    : config_(config), compute_(&compute), cache_(&cache), rope_(std::move(rope)) {
  const int group = config.attention.num_heads / config.attention.num_kv_heads;
  tile_rows_ = std::max<int64_t>(1, kTileQueries / group);
  tiles_.reserve(max_step_tokens / tile_rows_ + max_step_sequences);
  states_.resize(compute.pool().num_threads());
  for (std::vector<kernels::SoftmaxState>& states : states_) states.reserve(tile_rows_ * group);
}

void Attention::BeginStep(const StepBatch& batch) {
  batch_ = &batch;
  rope_.Extend(batch.max_position + 1);
  tiles_.clear();
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const int64_t first = batch.first_rows[s];
    const int64_t end = first + static_cast<int64_t>(batch.sequences[s].tokens.size());
    for (int64_t row = first; row < end; row += tile_rows_)
      tiles_.push_back({static_cast<int32_t>(s), row, std::min(tile_rows_, end - row)});
  }
}

void Attention::StoreKeysAndValues(int layer, const LayerWeights& weights, float* qkv) {
  const AttentionConfig& attention = config_.attention;
  const int head_dim = attention.head_dim;
  const kernels::VectorOps& ops = compute_->ops();
  const kernels::PagedKvView kv = cache_->layer(layer);
  compute_->ForRows(batch_->num_rows(), [&](int64_t row, int) {
    float* q = qkv + row * qkv_size();
    float* k = q + q_size();
    float* v = k + kv_size();
    if (!weights.q_norm.empty()) Normalize(ops, weights.q_norm, config_.rms_norm_eps, q, q_size());
    if (!weights.k_norm.empty()) Normalize(ops, weights.k_norm, config_.rms_norm_eps, k, kv_size());
    if (attention.clip_qkv.has_value()) {
      for (int64_t i = 0; i < qkv_size(); ++i)
        q[i] = std::clamp(q[i], -*attention.clip_qkv, *attention.clip_qkv);
    }
    const int64_t position = batch_->position[row];
    // Queries and keys lie side by side, and so do their heads.
    for (int64_t head = 0; head < attention.num_heads + attention.num_kv_heads; ++head)
      ops.rotate(q + head * head_dim, rope_.cos(position), rope_.sin(position), rope_.half());

    const SequenceStep& sequence = batch_->sequences[batch_->sequence[row]];
    const BlockId block = sequence.block_table[position / kKvBlockTokens];
    DCHECK(block >= 0 && block < cache_->num_blocks());
    const int64_t slot = position % kKvBlockTokens;
    for (int head = 0; head < attention.num_kv_heads; ++head) {
      float* keys = kv.keys(block, head);
      for (int d = 0; d < head_dim; ++d) keys[d * kKvBlockTokens + slot] = k[head * head_dim + d];
      std::copy_n(v + head * head_dim, head_dim, kv.values(block, head) + slot * head_dim);
    }
  });
}

void Attention::Attend(int layer, const float* qkv, float* out) {
  const int kv_heads = config_.attention.num_kv_heads;
  compute_->pool().ParallelFor(static_cast<int64_t>(tiles_.size()) * kv_heads, [&](int64_t item,
                                                                                   int thread) {
    AttendTile(layer, tiles_[item / kv_heads], static_cast<int>(item % kv_heads), thread, qkv, out);
  });
}

void Attention::AttendTile(int layer, const QueryTile& tile, int kv_head, int thread,
                           const float* qkv, float* out) {
  const int head_dim = config_.attention.head_dim;
  const int group = config_.attention.num_heads / config_.attention.num_kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  const int64_t window =
      config_.layers[layer].sliding_window.value_or(std::numeric_limits<int64_t>::max());
  const kernels::VectorOps& ops = compute_->ops();
  const kernels::PagedKvView kv = cache_->layer(layer);
  const absl::Span<const BlockId> block_table = batch_->sequences[tile.sequence].block_table;
  std::vector<kernels::SoftmaxState>& states = states_[thread];
  states.assign(tile.num_rows * group, {-std::numeric_limits<float>::infinity(), 0.0f});
  for (int64_t r = 0; r < tile.num_rows; ++r) {
    float* heads = out + (tile.first_row + r) * q_size() + int64_t{kv_head} * group * head_dim;
    std::fill_n(heads, int64_t{group} * head_dim, 0.0f);  // the unnormalised sums gather in `out`
  }

  const int64_t first_position = batch_->position[tile.first_row];
  const int64_t last_position = first_position + tile.num_rows - 1;
  const auto window_begin = [&](int64_t position) {
    return position < window ? 0 : position - window + 1;
  };
  for (int64_t block = window_begin(first_position) / kKvBlockTokens;
       block <= last_position / kKvBlockTokens; ++block) {
    const float* keys = kv.keys(block_table[block], kv_head);
    const float* values = kv.values(block_table[block], kv_head);
    const int64_t block_begin = block * kKvBlockTokens;
    for (int64_t r = 0; r < tile.num_rows; ++r) {
      const int64_t position = first_position + r;
      const int64_t first = std::max<int64_t>(0, window_begin(position) - block_begin);
      const int64_t last = std::min<int64_t>(kKvBlockTokens, position + 1 - block_begin);
      if (first >= last) continue;
      for (int head = 0; head < group; ++head) {
        const int64_t offset = int64_t{kv_head * group + head} * head_dim;
        ops.attend_block(qkv + (tile.first_row + r) * qkv_size() + offset, keys, values, head_dim,
                         scale, static_cast<int>(first), static_cast<int>(last),
                         &states[r * group + head], out + (tile.first_row + r) * q_size() + offset);
      }
    }
  }
  for (int64_t r = 0; r < tile.num_rows; ++r) {
    for (int head = 0; head < group; ++head) {
      float* sums =
          out + (tile.first_row + r) * q_size() + int64_t{kv_head * group + head} * head_dim;
      ops.scale(1.0f / states[r * group + head].sum, sums, sums, head_dim);
    }
  }
}

}  // namespace sluice::model
