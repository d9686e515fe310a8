// FeedForward: runs SwiGLU networks over groups of rows: the routed experts of a layer, its shared
// expert, or its dense network.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/compute.h"
#include "model/config.h"
#include "model/weights.h"

namespace sluice::model {

// Where each token of a step goes in one layer; K = experts per token.
struct Routes {
  absl::Span<const int32_t> experts;  // [T, K], distinct within a token
  absl::Span<const float> weights;    // [T, K]
};

// The (token, k) pairs are sorted by expert, each expert's network runs over all its pairs in tiles
// of up to 32 rows, and each pair's result goes to a slot of its own, so that a token's results can
// be added up in the order of k whoever computed them first:
//
//   pairs  [P]        sorted by expert; the shared expert's T pairs last
//   hidden [P][F]     silu(gate x) * up x, in the format of the weights
//   slots  [T][S][H]  weight * down(hidden); S = K, one more with a shared expert
//
// Used by the thread that runs the step; works in parallel inside. Allocates nothing after
// construction.
class FeedForward {
 public:
  // `compute` outlives this.
  FeedForward(const ModelConfig& config, kernels::Compute& compute, kernels::WeightFormat format,
              int64_t max_tokens);

  // y [T, H] += the routed experts' outputs by their weights, and the shared expert's by its gate;
  // x [T, H].
  void RunExperts(const LayerWeights& weights, const Routes& routes, const float* x,
                  int64_t num_tokens, float* y);

  // y [T, H] += the dense network of x [T, H].
  void RunDense(const LayerWeights& weights, const float* x, int64_t num_tokens, float* y);

 private:
  struct Pair {
    int32_t token;
    int32_t slot;
    float weight;
  };
  // Up to kTileRows consecutive pairs of one network.
  struct Tile {
    const FfnWeights* ffn;
    int64_t first_pair;
    int rows;
    std::byte* hidden;  // [rows, F]
  };

  void SortByExpert(const LayerWeights& weights, const Routes& routes, int64_t num_tokens);
  // Appends one pair for each token, with its given slot, weighted by sigmoid(gate . x) or 1.
  void AddForAllTokens(const FfnWeights& ffn, const std::vector<float>& gate, const float* x,
                       int64_t num_tokens, int slot);
  // Cuts the pairs in [first_pair, end_pair), which belong to `ffn`, into tiles.
  void AddTiles(const FfnWeights& ffn, int64_t first_pair, int64_t end_pair);

  void Run(const float* x, int64_t num_tokens, float* y);
  // Work on the chunk-th stretch of a tile's columns; beyond the last there is nothing to do.
  void RunGateUp(const Tile& tile, const kernels::Activations& x, int64_t chunk, int thread);
  void RunDown(const Tile& tile, int64_t chunk, int thread);
  // Blocks of such a stretch.
  int64_t GateUpBlocks(const Tile& tile) const;
  int64_t DownBlocks(const Tile& tile) const;
  // The tile's rows of x side by side: where they are, or gathered into the thread's scratch.
  const std::byte* Gather(const Tile& tile, const kernels::Activations& x, int thread);

  const ModelConfig& config_;
  kernels::Compute& compute_;
  const kernels::WeightFormat format_;
  int slots_per_token_ = 0;
  std::vector<Pair> pairs_;
  std::vector<Tile> tiles_;
  std::vector<int64_t> ends_;  // [E] end of each expert's pairs
  std::byte* hidden_end_ = nullptr;
  kernels::AlignedBuffer<std::byte> hidden_;
  kernels::AlignedBuffer<float> slots_;
};

}  // namespace sluice::model
