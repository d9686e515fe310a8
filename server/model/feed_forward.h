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
//   hidden [P][F]     silu(gate x) * up x, f32
//   slots  [T][S][H]  weight * down(hidden); S = K, one more with a shared expert
//
// Work is handed out in items of about equal cost: a stretch of columns of one network, for all of
// its pairs. A crowded expert becomes many items, a quiet one a single item.
//
// Used by the thread that runs the step; works in parallel inside. Allocates nothing after
// construction.
class FeedForward {
 public:
  // `compute` outlives this.
  FeedForward(const ModelConfig& config, kernels::Compute& compute, int64_t max_tokens);

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
  // Consecutive pairs of one network.
  struct Group {
    const FfnWeights* ffn;
    int64_t first_pair;
    int64_t num_pairs;
    float* hidden;  // [num_pairs, F]
  };
  // Blocks [first_block, end_block) of a group's matrix.
  struct Item {
    const Group* group;
    int64_t first_block;
    int64_t end_block;
  };
  // Up to kTileRows consecutive pairs of a group.
  struct Tile {
    const Pair* pairs;
    int rows;
    float* hidden;  // [rows, F]
  };

  void Begin(int slots_per_token);
  void SortByExpert(const LayerWeights& weights, const Routes& routes, int64_t num_tokens);
  // Appends one pair for each token, with its given slot, weighted by sigmoid(gate . x) or 1.
  void AddForAllTokens(const FfnWeights& ffn, const std::vector<float>& gate, const float* x,
                       int64_t num_tokens, int slot);
  // The pairs in [first_pair, end_pair) belong to `ffn`.
  void AddGroup(const FfnWeights& ffn, int64_t first_pair, int64_t end_pair);
  // Cuts the matrix `which` of every group into items of a multiple of `unit` blocks.
  void MakeItems(const kernels::PackedMatrix FfnWeights::*which, int64_t unit);

  void Run(const float* x, int64_t num_tokens, float* y);
  // Calls work(tile) for every tile of a group.
  template <typename Work>
  void ForTiles(const Group& group, Work work) const;
  void RunGateUp(const Item& item, const kernels::Activations& x, int thread);
  void RunDown(const Item& item, int thread);
  // The tile's rows of x side by side: where they are, or gathered into the thread's scratch.
  const std::byte* GatherInputs(const Tile& tile, const kernels::Activations& x, int thread);
  // The tile's hidden rows in the format of the weights.
  const std::byte* ConvertHidden(const Tile& tile, int64_t width, int thread);

  const ModelConfig& config_;
  kernels::Compute& compute_;
  const kernels::WeightFormat format_;
  int slots_per_token_ = 0;
  std::vector<Pair> pairs_;
  std::vector<Group> groups_;
  std::vector<Item> items_;
  std::vector<int64_t> ends_;  // [E] end of each expert's pairs
  float* hidden_end_ = nullptr;
  kernels::AlignedBuffer<float> hidden_;
  kernels::AlignedBuffer<float> slots_;
};

}  // namespace sluice::model
