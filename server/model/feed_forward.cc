#include "model/feed_forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/integers.h"

namespace sluice::model {
namespace {

using base::CeilDiv;
using kernels::Activations;
using kernels::kBlockColumns;
using kernels::kTileRows;

// Items that each thread should find in a fork.
constexpr int64_t kItemsPerThread = 16;
// Below about this many rows a block costs what it takes to read it.
constexpr int64_t kMemoryBoundRows = 8;

// Width of a network.
int64_t FfnSize(const FfnWeights& ffn) { return ffn.down.k(); }

}  // namespace

FeedForward::FeedForward(const ModelConfig& config, kernels::Compute& compute, int64_t max_tokens)
    : config_(config), compute_(compute), format_(compute.kernels().format) {
  const bool has_shared = config.shared_ffn_size > 0;
  const int64_t slots = std::max<int64_t>(1, config.router.top_k + (has_shared ? 1 : 0));
  const int64_t hidden_per_token =
      std::max<int64_t>(int64_t{config.router.top_k} * config.expert_ffn_size +
                            (has_shared ? config.shared_ffn_size : 0),
                        config.dense_ffn_size);
  pairs_.reserve(max_tokens * slots);
  groups_.reserve(config.router.num_experts + 1);
  // Each group has a last item that may be small; the others have their share of the work.
  items_.reserve(groups_.capacity() + 2 * kItemsPerThread * compute.pool().num_threads());
  ends_.resize(config.router.num_experts);
  hidden_ = kernels::AlignedBuffer<float>(max_tokens * hidden_per_token);
  slots_ = kernels::AlignedBuffer<float>(max_tokens * slots * config.hidden_size);
}

void FeedForward::RunExperts(const LayerWeights& weights, const Routes& routes, const float* x,
                             int64_t num_tokens, float* y) {
  Begin(config_.router.top_k + (weights.shared.has_value() ? 1 : 0));
  SortByExpert(weights, routes, num_tokens);
  if (weights.shared.has_value())
    AddForAllTokens(*weights.shared, weights.shared_gate, x, num_tokens, config_.router.top_k);
  Run(x, num_tokens, y);
}

void FeedForward::RunDense(const LayerWeights& weights, const float* x, int64_t num_tokens,
                           float* y) {
  Begin(1);
  AddForAllTokens(*weights.dense, {}, x, num_tokens, 0);
  Run(x, num_tokens, y);
}

void FeedForward::Begin(int slots_per_token) {
  slots_per_token_ = slots_per_token;
  pairs_.clear();
  groups_.clear();
  hidden_end_ = hidden_.data();
}

// A counting sort: the pairs of an expert keep the order of the tokens.
void FeedForward::SortByExpert(const LayerWeights& weights, const Routes& routes,
                               int64_t num_tokens) {
  const int top_k = config_.router.top_k;
  DCHECK(static_cast<int64_t>(routes.experts.size()) == num_tokens * top_k);
  std::fill(ends_.begin(), ends_.end(), 0);
  for (const int32_t expert : routes.experts) ++ends_[expert];
  int64_t begin = 0;
  for (int64_t& end : ends_) begin += std::exchange(end, begin);
  pairs_.resize(routes.experts.size());
  for (int64_t token = 0; token < num_tokens; ++token) {
    for (int k = 0; k < top_k; ++k) {
      const int64_t i = token * top_k + k;
      pairs_[ends_[routes.experts[i]]++] = {static_cast<int32_t>(token),
                                            static_cast<int32_t>(token * slots_per_token_ + k),
                                            routes.weights[i]};
    }
  }
  begin = 0;
  for (size_t expert = 0; expert < ends_.size(); ++expert) {
    AddGroup(weights.experts[expert], begin, ends_[expert]);
    begin = ends_[expert];
  }
}

void FeedForward::AddForAllTokens(const FfnWeights& ffn, const std::vector<float>& gate,
                                  const float* x, int64_t num_tokens, int slot) {
  const int64_t first_pair = static_cast<int64_t>(pairs_.size());
  pairs_.resize(first_pair + num_tokens);
  compute_.ForRows(num_tokens, [&](int64_t token, int) {
    float weight = 1;
    if (!gate.empty()) {
      const float logit =
          compute_.ops().dot(gate.data(), x + token * config_.hidden_size, config_.hidden_size);
      weight = 1 / (1 + std::exp(-logit));
    }
    pairs_[first_pair + token] = {static_cast<int32_t>(token),
                                  static_cast<int32_t>(token * slots_per_token_ + slot), weight};
  });
  AddGroup(ffn, first_pair, static_cast<int64_t>(pairs_.size()));
}

void FeedForward::AddGroup(const FfnWeights& ffn, int64_t first_pair, int64_t end_pair) {
  if (first_pair == end_pair) return;
  groups_.push_back({&ffn, first_pair, end_pair - first_pair, hidden_end_});
  hidden_end_ += (end_pair - first_pair) * FfnSize(ffn);
  DCHECK(hidden_end_ <= hidden_.data() + hidden_.size());
}

void FeedForward::MakeItems(const kernels::PackedMatrix FfnWeights::*which, int64_t unit) {
  const auto block_cost = [](const Group& group) {
    return std::max(group.num_pairs, kMemoryBoundRows);
  };
  int64_t total = 0;
  for (const Group& group : groups_) total += (group.ffn->*which).num_blocks() * block_cost(group);
  const int64_t share = total / (kItemsPerThread * compute_.pool().num_threads());
  items_.clear();
  for (const Group& group : groups_) {
    const int64_t num_blocks = (group.ffn->*which).num_blocks();
    const int64_t blocks = std::max<int64_t>(CeilDiv(share, block_cost(group) * unit), 1) * unit;
    for (int64_t first = 0; first < num_blocks; first += blocks)
      items_.push_back({&group, first, std::min(first + blocks, num_blocks)});
  }
}

void FeedForward::Run(const float* x, int64_t num_tokens, float* y) {
  const Activations rows = compute_.Convert(format_, x, num_tokens, config_.hidden_size);
  MakeItems(&FfnWeights::gate_up, 2);
  compute_.pool().ParallelForStretches(
      static_cast<int64_t>(items_.size()),
      [&](int64_t i, int thread) { RunGateUp(items_[i], rows, thread); });
  MakeItems(&FfnWeights::down, 1);
  compute_.pool().ParallelForStretches(static_cast<int64_t>(items_.size()),
                                       [&](int64_t i, int thread) { RunDown(items_[i], thread); });
  compute_.ForRows(num_tokens, [&](int64_t token, int) {
    const float* slots = slots_.data() + token * slots_per_token_ * config_.hidden_size;
    compute_.ops().add_rows(slots, slots_per_token_, config_.hidden_size,
                            y + token * config_.hidden_size);
  });
}

template <typename Work>
void FeedForward::ForTiles(const Group& group, Work work) const {
  for (int64_t first = 0; first < group.num_pairs; first += kTileRows) {
    work(Tile{pairs_.data() + group.first_pair + first,
              static_cast<int>(std::min<int64_t>(kTileRows, group.num_pairs - first)),
              group.hidden + first * FfnSize(*group.ffn)});
  }
}

const std::byte* FeedForward::GatherInputs(const Tile& tile, const Activations& x, int thread) {
  const Pair* pairs = tile.pairs;
  if (pairs[tile.rows - 1].token - pairs[0].token == tile.rows - 1) return x.row(pairs[0].token);
  std::byte* to = compute_.thread(thread).rows.data();
  for (int row = 0; row < tile.rows; ++row)
    std::memcpy(to + row * x.row_bytes(), x.row(pairs[row].token), x.row_bytes());
  return to;
}

const std::byte* FeedForward::ConvertHidden(const Tile& tile, int64_t width, int thread) {
  if (format_ == kernels::WeightFormat::kF32)
    return reinterpret_cast<const std::byte*>(tile.hidden);
  std::byte* to = compute_.thread(thread).rows.data();
  const int64_t row_bytes = kernels::RowBytes(format_, width);
  for (int row = 0; row < tile.rows; ++row)
    compute_.ConvertRow(format_, tile.hidden + row * width, width, to + row * row_bytes);
  return to;
}

void FeedForward::RunGateUp(const Item& item, const Activations& x, int thread) {
  const kernels::PackedMatrix& weights = item.group->ffn->gate_up;
  const kernels::TileKernel& kernel = compute_.kernels().matmul(format_);
  weights.FetchStart(item.first_block);
  const int64_t width = FfnSize(*item.group->ffn);
  kernels::Compute::Thread& scratch = compute_.thread(thread);
  float* gate = scratch.tile.data();
  float* up = scratch.pair_tile.data();
  ForTiles(*item.group, [&](const Tile& tile) {
    const std::byte* rows = GatherInputs(tile, x, thread);
    for (int64_t block = item.first_block; block < item.end_block; block += 2) {
      kernel.Multiply(tile.rows, x.k, rows, weights.block(block), gate, scratch.kernel.data());
      kernel.Multiply(tile.rows, x.k, rows, weights.block(block + 1), up, scratch.kernel.data());
      compute_.ops().silu_mul(gate, up, gate, int64_t{tile.rows} * kBlockColumns);
      const int64_t column = block / 2 * kBlockColumns;
      const int64_t columns = std::min<int64_t>(kBlockColumns, width - column);
      for (int row = 0; row < tile.rows; ++row)
        std::copy_n(gate + row * kBlockColumns, columns, tile.hidden + row * width + column);
    }
  });
}

void FeedForward::RunDown(const Item& item, int thread) {
  const kernels::PackedMatrix& weights = item.group->ffn->down;
  weights.FetchStart(item.first_block);
  const kernels::TileKernel& kernel = compute_.kernels().matmul(format_);
  kernels::Compute::Thread& scratch = compute_.thread(thread);
  ForTiles(*item.group, [&](const Tile& tile) {
    const std::byte* rows = ConvertHidden(tile, weights.k(), thread);
    for (int64_t block = item.first_block; block < item.end_block; ++block) {
      kernel.Multiply(tile.rows, weights.k(), rows, weights.block(block), scratch.tile.data(),
                      scratch.kernel.data());
      const int64_t column = block * kBlockColumns;
      const int64_t columns = std::min<int64_t>(kBlockColumns, weights.n() - column);
      for (int row = 0; row < tile.rows; ++row) {
        compute_.ops().scale(tile.pairs[row].weight, scratch.tile.data() + row * kBlockColumns,
                             slots_.data() + tile.pairs[row].slot * weights.n() + column, columns);
      }
    }
  });
}

}  // namespace sluice::model
