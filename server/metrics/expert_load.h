// ExpertLoad: how much every expert of every layer has had to do since the server started. The
// engine publishes once a step; the metrics page and GetExpertLoad read the same numbers.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"

namespace sluice::metrics {

// One layer's figures, read at one moment between two steps.
struct LayerLoad {
  int layer = 0;                // decoder layer number
  std::vector<int64_t> tokens;  // [E] since the server started
  std::vector<double> weight;   // [E] sums of routing weights
  double seconds = 0;           // spent in router and experts
  // Over the last window_steps steps:
  int window_steps = 0;
  double imbalance = 1;          // most loaded / mean
  double active_experts = 0;     // distinct experts per step, on average
  double routing_entropy = 1;    // entropy of the load / log E
  double load_balance_loss = 1;  // E * sum f_i P_i (arXiv:2101.03961, eq. 4, without alpha)
};

// What one step adds: the tokens that each expert got, the sums of their routing weights (of an
// expert without tokens not looked at), the sums of the router's probabilities over all tokens, and
// the time of each layer. L = sparse layers, E = experts; all spans are [L, E] but `seconds`, which
// is [L].
struct ExpertStep {
  int64_t num_tokens = 0;
  absl::Span<const int32_t> tokens;
  absl::Span<const float> weights;
  absl::Span<const float> probabilities;
  absl::Span<const double> seconds;
};

// Publish is for the engine thread alone and never waits for readers; Read is for any thread and
// sees whole steps only.
class ExpertLoad {
 public:
  // Steps that the balance figures cover.
  static constexpr int kWindowSteps = 128;

  // `layers` are the decoder layers that have experts, ascending.
  ExpertLoad(std::vector<int> layers, int num_experts, int top_k);
  ~ExpertLoad();

  int num_experts() const;
  // Experts that each token is routed to, in each layer.
  int top_k() const;

  void Publish(const ExpertStep& step);

  // All layers, in order, and the number of steps published.
  struct Snapshot {
    int64_t steps = 0;
    std::vector<LayerLoad> layers;
  };
  Snapshot Read() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::metrics
