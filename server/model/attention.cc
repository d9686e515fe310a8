#include "model/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/integers.h"
#include "base/status_macros.h"

namespace sluice::model {
namespace {

using base::CeilDiv;
using kernels::AttentionPartial;
using kernels::AttentionPartialAt;
using kernels::AttentionPartialFloats;
using kernels::AttentionTile;
using kernels::KvFormat;

// Query vectors (rows times the heads of a group) that meet a chunk of keys and values while it is
// in the first-level cache.
constexpr int64_t kTileQueries = 128;
// Work items for each thread, so that one that falls behind holds nobody up for long.
constexpr int64_t kItemsPerThread = 4;
// Rows of partials, for each thread, of tiles whose spans are apart: on two threads enough for one
// sequence of 32 heads and some 32,000 positions, of 128 channels 1.2 MB. A tile that finds no room
// stays whole: it is then one item for each key/value head.
constexpr int64_t kPartialRowsPerThread = 1024;

// Rows whose keys and values one work item stores, of one head. In as many blocks, when each is
// another sequence's, they touch 36 KiB of bf16 at 128 channels: a first-level cache holds that.
constexpr int64_t kStoreRows = 8;
// Bytes of keys that it touches at least, of several heads where they are small: about what takes
// as long as a fork.
constexpr int64_t kStoreBytes = 8 << 10;

constexpr int64_t kNoWindow = kernels::kMaxAttentionWindow;

// RMSNorm over each `size` elements with the same weight, or over all of them if it covers them.
void Normalize(const kernels::VectorOps& ops, const std::vector<float>& weight, float eps, float* x,
               int64_t n) {
  const int64_t size = static_cast<int64_t>(weight.size());
  for (int64_t i = 0; i < n; i += size) ops.rms_norm(x + i, weight.data(), eps, x + i, size);
}

// The first position that a query at `position` sees.
int64_t FirstSeen(int64_t position, int64_t window) {
  return position < window ? 0 : position - window + 1;
}

// Where one position of a block goes. In both, slots behind it are cleared if it is the `last` of
// its sequence: they may hold what another sequence left, and attention multiplies them by zero.
void StoreF32(const float* k, const float* v, int head_dim, int channels, int64_t slot, bool last,
              float* keys, float* values) {
  for (int d = 0; d < head_dim; ++d) keys[d * kKvBlockTokens + slot] = k[d];
  std::copy_n(v, head_dim, values + slot * channels);
  if (last) {
    std::fill_n(values + (slot + 1) * channels, (kKvBlockTokens - 1 - slot) * channels, 0.0f);
  }
}

void StoreBf16(const uint16_t* k, const uint16_t* v, int head_dim, int channels, int64_t slot,
               bool last, uint16_t* keys, uint16_t* values) {
  for (int d = 0; d < head_dim; d += 2)
    std::memcpy(keys + d * kKvBlockTokens + 2 * slot, k + d, 2 * sizeof(uint16_t));
  uint16_t* line = values + slot / 2 * 2 * channels;
  if (last && slot % 2 == 0) {
    for (int d = 0; d < head_dim; ++d) {
      line[2 * d] = v[d];
      line[2 * d + 1] = 0;
    }
  } else {
    for (int d = 0; d < head_dim; ++d) line[2 * d + slot % 2] = v[d];
  }
  if (last) {
    const int64_t pairs = slot / 2 + 1;
    std::fill_n(values + pairs * 2 * channels, (kKvBlockTokens - 2 * pairs) * channels,
                uint16_t{0});
  }
}

// Asks for the lines that a position is written to: all of the keys' and its own of the values.
// What is cleared behind it follows in order, which processors fetch by themselves.
void FetchSlot(const kernels::PagedKvView& kv, BlockId block, int kv_head, int64_t slot) {
  const int64_t element_bytes = kv.format == KvFormat::kF32 ? 4 : 2;
  const std::byte* keys = kv.keys(block, kv_head);
  const std::byte* values = kv.values(block, kv_head) + kv.ValueIndex(slot, 0) * element_bytes;
  for (int64_t i = 0; i < kernels::KvBytes(kv.format, kv.head_dim); i += kernels::kCacheLine)
    __builtin_prefetch(keys + i);
  for (int64_t i = 0; i < 4 * kv.channels(); i += kernels::kCacheLine)
    __builtin_prefetch(values + i);
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
    : config_(config),
      compute_(&compute),
      cache_(&cache),
      rope_(std::move(rope)),
      channels_(kernels::PaddedKvChannels(config.attention.head_dim)),
      max_window_(0),
      tile_rows_(std::max<int64_t>(1, kTileQueries / group())) {
  CHECK(config.attention.head_dim % 2 == 0);  // as rotation has it, and pairs in the cache
  for (size_t layer = 0; layer < config.layers.size(); ++layer)
    max_window_ = std::max(max_window_, window(static_cast<int>(layer)));
  const int num_threads = compute.pool().num_threads();
  const int64_t queries = std::min<int64_t>(tile_rows_, max_step_tokens) * group();
  const int64_t floats = AttentionPartialFloats(queries, channels_);
  for (int thread = 0; thread < num_threads; ++thread) {
    scratch_.push_back({kernels::AlignedBuffer<float>(queries * channels_),
                        kernels::AlignedBuffer<float>(floats),
                        kernels::AlignedBuffer<float>(floats)});
    rounded_.emplace_back(2 * config.attention.head_dim);
  }
  int64_t max_spans = 0;
  if (num_threads > 1) {
    const int64_t partial_rows = kPartialRowsPerThread * num_threads;
    partials_ = kernels::AlignedBuffer<float>(AttentionPartialFloats(partial_rows, channels_));
    max_spans = partial_rows / config.attention.num_heads;
  }
  const int64_t max_tiles = max_step_tokens / tile_rows_ + max_step_sequences;
  tiles_.reserve(max_tiles);
  split_tiles_.reserve(max_tiles);
  items_.reserve(max_tiles + max_spans);
}

int64_t Attention::window(int layer) const {
  return std::min<int64_t>(config_.layers[layer].sliding_window.value_or(kNoWindow), kNoWindow);
}

int64_t Attention::partial_floats(const QueryTile& tile) const {
  return AttentionPartialFloats(tile.num_rows * group(), channels_);
}

void Attention::BeginStep(const StepBatch& batch) {
  batch_ = &batch;
  rope_.Extend(batch.max_position + 1);
  tiles_.clear();
  int64_t total = 0;
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const int64_t first = batch.first_rows[s];
    const int64_t end = first + static_cast<int64_t>(batch.sequences[s].tokens.size());
    for (int64_t row = first; row < end; row += tile_rows_) {
      const int64_t num_rows = std::min(tile_rows_, end - row);
      const int64_t first_position = FirstSeen(batch.position[row], max_window_);
      const int64_t last_position = batch.position[row + num_rows - 1];
      const int64_t cost = num_rows * (last_position + 1 - first_position);
      total += cost;
      tiles_.push_back({static_cast<int32_t>(s), row, num_rows,
                        first_position / kernels::kAttentionSpan,
                        last_position / kernels::kAttentionSpan + 1, cost, std::nullopt});
    }
  }

  const int kv_heads = config_.attention.num_kv_heads;
  const int64_t shares = kItemsPerThread * compute_->pool().num_threads();
  int64_t used = 0;
  items_.clear();
  split_tiles_.clear();
  for (size_t t = 0; t < tiles_.size(); ++t) {
    QueryTile& tile = tiles_[t];
    const int64_t spans = tile.last_span - tile.first_span;
    const int64_t floats = spans * kv_heads * partial_floats(tile);
    const bool split = spans > 1 && tile.cost * shares > total * kv_heads &&
                       used + floats <= static_cast<int64_t>(partials_.size());
    if (!split) {
      items_.push_back({static_cast<int32_t>(t), std::nullopt, tile.cost});
      continue;
    }
    tile.partials = used;
    used += floats;
    split_tiles_.push_back(static_cast<int32_t>(t));
    for (int64_t span = tile.first_span; span < tile.last_span; ++span)
      items_.push_back({static_cast<int32_t>(t), span, tile.cost / spans});
  }
  // The last tile of a long prompt sees the most; begun last, it would leave the others waiting.
  std::sort(items_.begin(), items_.end(),
            [](const WorkItem& a, const WorkItem& b) { return a.cost > b.cost; });
}

void Attention::StoreKeysAndValues(int layer, const LayerWeights& weights, float* qkv) {
  const AttentionConfig& attention = config_.attention;
  const kernels::VectorOps& ops = compute_->ops();
  const int64_t num_rows = batch_->num_rows();
  compute_->ForRows(num_rows, [&](int64_t row, int) {
    float* q = qkv + row * qkv_size();
    float* k = q + q_size();
    if (!weights.q_norm.empty()) Normalize(ops, weights.q_norm, config_.rms_norm_eps, q, q_size());
    if (!weights.k_norm.empty()) Normalize(ops, weights.k_norm, config_.rms_norm_eps, k, kv_size());
    if (attention.clip_qkv.has_value()) {
      for (int64_t i = 0; i < qkv_size(); ++i)
        q[i] = std::clamp(q[i], -*attention.clip_qkv, *attention.clip_qkv);
    }
    const int64_t position = batch_->position[row];
    // Queries and keys lie side by side, and so do their heads.
    for (int64_t head = 0; head < attention.num_heads + attention.num_kv_heads; ++head) {
      ops.rotate(q + head * attention.head_dim, rope_.cos(position), rope_.sin(position),
                 rope_.half());
    }
  });
  // In stretches, as positions of a block share lines: two threads meet there only where theirs do.
  const int64_t kv_heads = attention.num_kv_heads;
  const int64_t head_bytes = kernels::KvBytes(cache_->shape().format, attention.head_dim) *
                             std::clamp<int64_t>(num_rows, 1, kStoreRows);
  const int64_t heads_per_item = std::clamp<int64_t>(kStoreBytes / head_bytes, 1, kv_heads);
  const int64_t parts = CeilDiv(kv_heads, heads_per_item);
  compute_->pool().ParallelForStretches(
      CeilDiv(num_rows, kStoreRows) * parts, [&](int64_t i, int thread) {
        const int64_t first_head = i % parts * heads_per_item;
        const int64_t end_head = std::min(first_head + heads_per_item, kv_heads);
        for (int64_t head = first_head; head < end_head; ++head)
          StoreHead(layer, i / parts * kStoreRows, static_cast<int>(head), qkv, thread);
      });
}

void Attention::StoreHead(int layer, int64_t first_row, int kv_head, const float* qkv, int thread) {
  const int head_dim = config_.attention.head_dim;
  const kernels::PagedKvView kv = cache_->layer(layer);
  const auto sequence_of = [&](int64_t row) -> const SequenceStep& {
    return batch_->sequences[batch_->sequence[row]];
  };
  const auto block_of = [&](int64_t row) {
    const BlockId block = sequence_of(row).block_table[batch_->position[row] / kKvBlockTokens];
    DCHECK(block >= 0 && block < cache_->num_blocks());
    return block;
  };
  const int64_t end_row = std::min(first_row + kStoreRows, batch_->num_rows());
  // A key touches every line of its block's keys. Fetched one by one as they are written, they
  // would cost a memory latency each.
  for (int64_t row = first_row; row < end_row; ++row) {
    if (row == first_row || block_of(row) != block_of(row - 1))
      FetchSlot(kv, block_of(row), kv_head, batch_->position[row] % kKvBlockTokens);
  }
  for (int64_t row = first_row; row < end_row; ++row) {
    const SequenceStep& sequence = sequence_of(row);
    const int64_t position = batch_->position[row];
    const int64_t slot = position % kKvBlockTokens;
    const bool last =
        position + 1 == sequence.first_position + static_cast<int64_t>(sequence.tokens.size());
    const float* k = qkv + row * qkv_size() + q_size() + int64_t{kv_head} * head_dim;
    const float* v = k + kv_size();
    std::byte* keys = kv.keys(block_of(row), kv_head);
    std::byte* values = kv.values(block_of(row), kv_head);
    if (kv.format == KvFormat::kF32) {
      StoreF32(k, v, head_dim, channels_, slot, last, reinterpret_cast<float*>(keys),
               reinterpret_cast<float*>(values));
    } else {
      uint16_t* rounded = rounded_[thread].data();
      compute_->ops().to_bf16(k, rounded, head_dim);
      compute_->ops().to_bf16(v, rounded + head_dim, head_dim);
      StoreBf16(rounded, rounded + head_dim, head_dim, channels_, slot, last,
                reinterpret_cast<uint16_t*>(keys), reinterpret_cast<uint16_t*>(values));
    }
  }
}

AttentionTile Attention::KernelTile(int layer, const QueryTile& tile, int kv_head,
                                    const float* qkv) const {
  const int head_dim = config_.attention.head_dim;
  const kernels::PagedKvView kv = cache_->layer(layer);
  return {.format = kv.format,
          .head = kv.keys(0, kv_head),
          .block_stride = kv.block_stride,
          .values_offset = kernels::KvBytes(kv.format, head_dim),
          .head_dim = head_dim,
          .channels = channels_,
          .block_table = batch_->sequences[tile.sequence].block_table.data(),
          .q = qkv + tile.first_row * qkv_size() + int64_t{kv_head} * group() * head_dim,
          .token_stride = qkv_size(),
          .num_tokens = static_cast<int>(tile.num_rows),
          .group = group(),
          .first_position = batch_->position[tile.first_row],
          .window = window(layer),
          .scale = 1.0f / std::sqrt(static_cast<float>(head_dim))};
}

AttentionPartial Attention::Partial(const QueryTile& tile, int64_t span, int kv_head) {
  const int64_t index = (span - tile.first_span) * config_.attention.num_kv_heads + kv_head;
  return AttentionPartialAt(partials_.data() + *tile.partials + index * partial_floats(tile),
                            tile.num_rows * group(), channels_);
}

void Attention::Attend(int layer, const float* qkv, float* out) {
  const int kv_heads = config_.attention.num_kv_heads;
  base::ThreadPool& pool = compute_->pool();
  pool.ParallelFor(static_cast<int64_t>(items_.size()) * kv_heads, [&](int64_t i, int thread) {
    RunItem(layer, items_[i / kv_heads], static_cast<int>(i % kv_heads), thread, qkv, out);
  });
  pool.ParallelFor(static_cast<int64_t>(split_tiles_.size()) * kv_heads, [&](int64_t i, int) {
    MergeSpans(tiles_[split_tiles_[i / kv_heads]], static_cast<int>(i % kv_heads), out);
  });
}

void Attention::RunItem(int layer, const WorkItem& item, int kv_head, int thread, const float* qkv,
                        float* out) {
  const kernels::AttentionKernel& kernel = compute_->attention();
  const QueryTile& tile = tiles_[item.tile];
  const AttentionTile work = KernelTile(layer, tile, kv_head, qkv);
  Scratch& scratch = scratch_[thread];
  const int64_t rows = tile.num_rows * group();
  const kernels::AttentionScratch memory = {
      .queries = scratch.queries.data(),
      .span = AttentionPartialAt(scratch.span.data(), rows, channels_)};
  if (item.span.has_value()) {
    kernel.attend(work, *item.span, *item.span + 1, memory, Partial(tile, *item.span, kv_head));
    return;
  }
  const int64_t first_span = FirstSeen(work.first_position, work.window) / kernels::kAttentionSpan;
  const AttentionPartial result = AttentionPartialAt(scratch.result.data(), rows, channels_);
  kernel.attend(work, first_span, tile.last_span, memory, result);
  Finish(tile, kv_head, result, out);
}

void Attention::MergeSpans(const QueryTile& tile, int kv_head, float* out) {
  const AttentionPartial result = Partial(tile, tile.first_span, kv_head);
  for (int64_t span = tile.first_span + 1; span < tile.last_span; ++span) {
    compute_->attention().merge(tile.num_rows * group(), channels_, Partial(tile, span, kv_head),
                                result);
  }
  Finish(tile, kv_head, result, out);
}

void Attention::Finish(const QueryTile& tile, int kv_head, const AttentionPartial& partial,
                       float* out) const {
  const int head_dim = config_.attention.head_dim;
  for (int64_t r = 0; r < tile.num_rows; ++r) {
    for (int head = 0; head < group(); ++head) {
      compute_->attention().finish(
          partial, r * group() + head, channels_, head_dim,
          out + (tile.first_row + r) * q_size() + (int64_t{kv_head} * group() + head) * head_dim);
    }
  }
}

}  // namespace sluice::model
