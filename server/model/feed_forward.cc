#include "model/feed_forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace sluice::model {
namespace {

using kernels::Activations;
using kernels::kBlockColumns;
using kernels::kTileRows;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Width of a network.
int64_t FfnSize(const FfnWeights& ffn) { return ffn.down.k(); }

}  // namespace

FeedForward::FeedForward(const ModelConfig& config, kernels::Compute& compute,
                         kernels::WeightFormat format, int64_t max_tokens)
    : config_(config), compute_(compute), format_(format) {
  const auto hidden_bytes = [&](int64_t ffn_size) {
    return kernels::PaddedK(format, ffn_size) * static_cast<int64_t>(kernels::BytesOf(format));
  };
  const bool has_shared = config.shared_ffn_size > 0;
  const int64_t sparse_slots = config.router.top_k + (has_shared ? 1 : 0);
  const int64_t slots = std::max<int64_t>(1, sparse_slots);
  const int64_t bytes_per_token =
      std::max(config.router.top_k * hidden_bytes(config.expert_ffn_size) +
                   (has_shared ? hidden_bytes(config.shared_ffn_size) : 0),
               hidden_bytes(config.dense_ffn_size));
  pairs_.reserve(max_tokens * slots);
  // Every network may end with a tile that is not full.
  tiles_.reserve(CeilDiv(max_tokens * slots, kTileRows) + config.router.num_experts + 1);
  ends_.resize(config.router.num_experts);
  hidden_ = kernels::AlignedBuffer<std::byte>(max_tokens * bytes_per_token);
  slots_ = kernels::AlignedBuffer<float>(max_tokens * slots * config.hidden_size);
}

void FeedForward::RunExperts(const LayerWeights& weights, const Routes& routes, const float* x,
                             int64_t num_tokens, float* y) {
  slots_per_token_ = config_.router.top_k + (weights.shared.has_value() ? 1 : 0);
  tiles_.clear();
  hidden_end_ = hidden_.data();
  SortByExpert(weights, routes, num_tokens);
  if (weights.shared.has_value())
    AddForAllTokens(*weights.shared, weights.shared_gate, x, num_tokens, config_.router.top_k);
  Run(x, num_tokens, y);
}

void FeedForward::RunDense(const LayerWeights& weights, const float* x, int64_t num_tokens,
                           float* y) {
  slots_per_token_ = 1;
  tiles_.clear();
  pairs_.clear();
  hidden_end_ = hidden_.data();
  AddForAllTokens(*weights.dense, {}, x, num_tokens, 0);
  Run(x, num_tokens, y);
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
    AddTiles(weights.experts[expert], begin, ends_[expert]);
    begin = ends_[expert];
  }
}

void FeedForward::AddForAllTokens(const FfnWeights& ffn, const std::vector<float>& gate,
                                  const float* x, int64_t num_tokens, int slot) {
  const int64_t first_pair = static_cast<int64_t>(pairs_.size());
  for (int64_t token = 0; token < num_tokens; ++token) {
    float weight = 1;
    if (!gate.empty()) {
      const float logit =
          compute_.ops().dot(gate.data(), x + token * config_.hidden_size, config_.hidden_size);
      weight = 1 / (1 + std::exp(-logit));
    }
    pairs_.push_back({static_cast<int32_t>(token),
                      static_cast<int32_t>(token * slots_per_token_ + slot), weight});
  }
  AddTiles(ffn, first_pair, static_cast<int64_t>(pairs_.size()));
}

void FeedForward::AddTiles(const FfnWeights& ffn, int64_t first_pair, int64_t end_pair) {
  const int64_t row_bytes =
      kernels::PaddedK(format_, FfnSize(ffn)) * static_cast<int64_t>(kernels::BytesOf(format_));
  for (int64_t pair = first_pair; pair < end_pair; pair += kTileRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kTileRows, end_pair - pair));
    tiles_.push_back({&ffn, pair, rows, hidden_end_});
    hidden_end_ += rows * row_bytes;
  }
  DCHECK(hidden_end_ <= hidden_.data() + hidden_.size());
}

void FeedForward::Run(const float* x, int64_t num_tokens, float* y) {
  const Activations rows = compute_.Convert(format_, x, num_tokens, config_.hidden_size);
  const int64_t num_tiles = static_cast<int64_t>(tiles_.size());
  int64_t gate_up_chunks = 0;
  int64_t down_chunks = 0;
  for (const Tile& tile : tiles_) {
    gate_up_chunks =
        std::max(gate_up_chunks, CeilDiv(tile.ffn->gate_up.num_blocks(), GateUpBlocks(tile)));
    down_chunks = std::max(down_chunks, CeilDiv(tile.ffn->down.num_blocks(), DownBlocks(tile)));
  }
  compute_.pool().ParallelFor(num_tiles * gate_up_chunks, [&](int64_t item, int thread) {
    RunGateUp(tiles_[item / gate_up_chunks], rows, item % gate_up_chunks, thread);
  });
  compute_.pool().ParallelFor(num_tiles * down_chunks, [&](int64_t item, int thread) {
    RunDown(tiles_[item / down_chunks], item % down_chunks, thread);
  });
  compute_.ForRows(num_tokens, [&](int64_t token, int) {
    float* sum = slots_.data() + token * slots_per_token_ * config_.hidden_size;
    for (int slot = 1; slot < slots_per_token_; ++slot)
      compute_.ops().add_scaled(1, sum + slot * int64_t{config_.hidden_size}, sum,
                                config_.hidden_size);
    compute_.ops().add_scaled(1, sum, y + token * config_.hidden_size, config_.hidden_size);
  });
}

int64_t FeedForward::GateUpBlocks(const Tile& tile) const {
  return CeilDiv(compute_.BlocksPerItem(static_cast<int64_t>(tiles_.size()), tile.ffn->gate_up),
                 2) *
         2;
}

int64_t FeedForward::DownBlocks(const Tile& tile) const {
  return compute_.BlocksPerItem(static_cast<int64_t>(tiles_.size()), tile.ffn->down);
}

const std::byte* FeedForward::Gather(const Tile& tile, const Activations& x, int thread) {
  const Pair* pairs = pairs_.data() + tile.first_pair;
  if (pairs[tile.rows - 1].token - pairs[0].token == tile.rows - 1) return x.row(pairs[0].token);
  std::byte* to = compute_.thread(thread).rows.data();
  for (int row = 0; row < tile.rows; ++row)
    std::memcpy(to + row * x.row_bytes(), x.row(pairs[row].token), x.row_bytes());
  return to;
}

void FeedForward::RunGateUp(const Tile& tile, const Activations& x, int64_t chunk, int thread) {
  const kernels::PackedMatrix& weights = tile.ffn->gate_up;
  const int64_t blocks = GateUpBlocks(tile);
  const int64_t end = std::min((chunk + 1) * blocks, weights.num_blocks());
  if (chunk * blocks >= end) return;
  const kernels::TileKernel& kernel = compute_.kernels().matmul(format_);
  kernels::Compute::Thread& scratch = compute_.thread(thread);
  float* gate = scratch.tile.data();
  float* up = scratch.pair_tile.data();
  const std::byte* rows = Gather(tile, x, thread);
  const int64_t hidden_k = kernels::PaddedK(format_, FfnSize(*tile.ffn));
  for (int64_t block = chunk * blocks; block < end; block += 2) {
    kernel.Multiply(tile.rows, x.k, rows, weights.block(block), gate, scratch.kernel.data());
    kernel.Multiply(tile.rows, x.k, rows, weights.block(block + 1), up, scratch.kernel.data());
    // Columns beyond the network's width come out as zeros, which is what the padding of K needs.
    compute_.ops().silu_mul(gate, up, gate, int64_t{tile.rows} * kBlockColumns);
    const int64_t column = block / 2 * kBlockColumns;
    const int64_t columns = std::min<int64_t>(kBlockColumns, hidden_k - column);
    for (int row = 0; row < tile.rows; ++row) {
      const float* from = gate + row * kBlockColumns;
      const int64_t to = row * hidden_k + column;
      if (format_ == kernels::WeightFormat::kF32) {
        std::copy_n(from, columns, reinterpret_cast<float*>(tile.hidden) + to);
      } else {
        compute_.ops().to_bf16(from, reinterpret_cast<uint16_t*>(tile.hidden) + to, columns);
      }
    }
  }
}

void FeedForward::RunDown(const Tile& tile, int64_t chunk, int thread) {
  const kernels::PackedMatrix& weights = tile.ffn->down;
  const int64_t blocks = DownBlocks(tile);
  const int64_t end = std::min((chunk + 1) * blocks, weights.num_blocks());
  const kernels::TileKernel& kernel = compute_.kernels().matmul(format_);
  kernels::Compute::Thread& scratch = compute_.thread(thread);
  for (int64_t block = chunk * blocks; block < end; ++block) {
    kernel.Multiply(tile.rows, weights.k(), tile.hidden, weights.block(block), scratch.tile.data(),
                    scratch.kernel.data());
    const int64_t column = block * kBlockColumns;
    const int64_t columns = std::min<int64_t>(kBlockColumns, weights.n() - column);
    for (int row = 0; row < tile.rows; ++row) {
      const Pair& pair = pairs_[tile.first_pair + row];
      compute_.ops().scale(pair.weight, scratch.tile.data() + row * kBlockColumns,
                           slots_.data() + pair.slot * weights.n() + column, columns);
    }
  }
}

}  // namespace sluice::model
