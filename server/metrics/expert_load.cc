#include "metrics/expert_load.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>
#include <utility>

#include "base/check.h"

namespace sluice::metrics {
namespace {

// Window sums of probabilities are kept in fixed point, so that what a step added is taken away
// again exactly and the sums never drift.
constexpr double kProbabilityOne = 4294967296.0;  // 2^32

// A broken model's NaN counts as zero: it must not stay in the window's sum for ever.
int64_t ToFixedPoint(float probability) {
  // Of a step, the sum over 2^22 tokens; the window's sum then fits into 63 bits.
  constexpr float kMost = 4194304.0f;
  if (!(probability > 0)) return 0;
  return static_cast<int64_t>(std::min(probability, kMost) * kProbabilityOne);
}

}  // namespace

// All arrays are laid out [L, E], those of the window's ring [W, L, E], and allocated once.
//
// What readers see is guarded by a version that is odd while the engine thread changes it: a reader
// copies, and copies again if the version was odd or has changed. So the engine never waits for a
// reader, not even for one that loses its processor in the middle, while a reader rarely copies
// twice: a step takes far longer than a copy. Every store releases and every load acquires, which
// keeps them between the two accesses to the version and costs nothing on x86-64.
struct ExpertLoad::State {
  State(std::vector<int> layer_numbers, int experts, int experts_per_token)
      : layers(std::move(layer_numbers)),
        num_experts(experts),
        top_k(experts_per_token),
        size(layers.size() * static_cast<size_t>(experts)),
        tokens(size),
        weight(size),
        seconds(layers.size()),
        window_tokens(size),
        window_probability(size),
        window_active(layers.size()),
        ring_tokens(kWindowSteps * size),
        ring_probability(kWindowSteps * size),
        ring_active(kWindowSteps * layers.size()),
        ring_num_tokens(kWindowSteps) {}

  const std::vector<int> layers;
  const int num_experts;
  const int top_k;
  const size_t size;  // L * E

  std::atomic<uint64_t> version{0};
  std::atomic<int64_t> steps{0};
  // Since the server started.
  std::vector<std::atomic<int64_t>> tokens;
  std::vector<std::atomic<double>> weight;
  std::vector<std::atomic<double>> seconds;
  // Sums over the window: tokens, probabilities (fixed point), experts used per layer, tokens of
  // the batch.
  std::vector<std::atomic<int64_t>> window_tokens;
  std::vector<std::atomic<int64_t>> window_probability;
  std::vector<std::atomic<int64_t>> window_active;
  std::atomic<int64_t> window_num_tokens{0};

  // For the engine thread alone: what each step of the window added to those sums; step s is in
  // place s % kWindowSteps.
  std::vector<int32_t> ring_tokens;
  std::vector<float> ring_probability;
  std::vector<int32_t> ring_active;
  std::vector<int64_t> ring_num_tokens;
};

namespace {

// There is one writer, so reading and writing need not be one operation.
template <typename T>
void Add(std::atomic<T>& total, T value) {
  total.store(total.load(std::memory_order_relaxed) + value, std::memory_order_release);
}

template <typename T>
void Copy(const std::atomic<T>* from, size_t count, T* to) {
  for (size_t i = 0; i < count; ++i) to[i] = from[i].load(std::memory_order_acquire);
}

// One layer's sums over the window; spans are [E].
struct WindowSums {
  int64_t steps = 0;
  int64_t slots = 0;       // routed: num_tokens * top_k
  int64_t num_tokens = 0;  // of the batches
  int64_t active = 0;
  absl::Span<const int64_t> tokens;
  absl::Span<const int64_t> probability;
};

void SetBalance(const WindowSums& window, LayerLoad& load) {
  load.window_steps = static_cast<int>(window.steps);
  if (window.steps > 0) {
    load.active_experts = static_cast<double>(window.active) / static_cast<double>(window.steps);
  }
  if (window.slots == 0) return;
  const auto slots = static_cast<double>(window.slots);
  const auto num_experts = static_cast<double>(window.tokens.size());
  int64_t most = 0;
  double entropy = 0;
  double loss = 0;
  for (size_t i = 0; i < window.tokens.size(); ++i) {
    const double share = static_cast<double>(window.tokens[i]) / slots;
    most = std::max(most, window.tokens[i]);
    if (share > 0) entropy -= share * std::log(share);
    loss += share * static_cast<double>(window.probability[i]);
  }
  load.imbalance = static_cast<double>(most) * num_experts / slots;
  if (window.tokens.size() > 1) load.routing_entropy = entropy / std::log(num_experts);
  load.load_balance_loss =
      num_experts * loss / (kProbabilityOne * static_cast<double>(window.num_tokens));
}

}  // namespace

ExpertLoad::ExpertLoad(std::vector<int> layers, int num_experts, int top_k)
    : state_(std::make_unique<State>(std::move(layers), num_experts, top_k)) {}

ExpertLoad::~ExpertLoad() = default;

int ExpertLoad::num_experts() const { return state_->num_experts; }

int ExpertLoad::top_k() const { return state_->top_k; }

void ExpertLoad::Publish(const ExpertStep& step) {
  State& s = *state_;
  const size_t num_layers = s.layers.size();
  const auto num_experts = static_cast<size_t>(s.num_experts);
  CHECK(step.tokens.size() == s.size && step.weights.size() == s.size &&
        step.probabilities.size() == s.size && step.seconds.size() == num_layers);

  const uint64_t version = s.version.load(std::memory_order_relaxed);
  s.version.store(version + 1, std::memory_order_relaxed);
  const auto place = static_cast<size_t>(s.steps.load(std::memory_order_relaxed) % kWindowSteps);
  Add(s.steps, int64_t{1});
  Add(s.window_num_tokens, step.num_tokens - s.ring_num_tokens[place]);
  s.ring_num_tokens[place] = step.num_tokens;
  int32_t* const old_tokens = s.ring_tokens.data() + place * s.size;
  float* const old_probability = s.ring_probability.data() + place * s.size;
  // Of their own, as the compiler would load these pointers again after every store.
  const int32_t* const tokens = step.tokens.data();
  const float* const probability = step.probabilities.data();
  std::atomic<int64_t>* const window_tokens = s.window_tokens.data();
  std::atomic<int64_t>* const window_probability = s.window_probability.data();
  const size_t size = s.size;
  for (size_t i = 0; i < size; ++i) {
    // Most experts have no token of a small batch, now as a window ago.
    if (tokens[i] != 0) {
      Add(s.tokens[i], int64_t{tokens[i]});
      Add(s.weight[i], double{step.weights[i]});
    }
    if (tokens[i] != old_tokens[i]) {
      Add(window_tokens[i], int64_t{tokens[i]} - old_tokens[i]);
      old_tokens[i] = tokens[i];
    }
    Add(window_probability[i], ToFixedPoint(probability[i]) - ToFixedPoint(old_probability[i]));
    old_probability[i] = probability[i];
  }
  for (size_t layer = 0; layer < num_layers; ++layer) {
    const int32_t* const first = tokens + layer * num_experts;
    const auto active = static_cast<int32_t>(
        std::count_if(first, first + num_experts, [](int32_t n) { return n > 0; }));
    int32_t& old_active = s.ring_active[place * num_layers + layer];
    Add(s.window_active[layer], int64_t{active} - old_active);
    old_active = active;
    Add(s.seconds[layer], step.seconds[layer]);
  }
  s.version.store(version + 2, std::memory_order_release);
}

ExpertLoad::Snapshot ExpertLoad::Read() const {
  const State& s = *state_;
  const size_t num_layers = s.layers.size();
  const auto num_experts = static_cast<size_t>(s.num_experts);
  Snapshot snapshot;
  snapshot.layers.resize(num_layers);
  for (LayerLoad& load : snapshot.layers) {
    load.tokens.resize(num_experts);
    load.weight.resize(num_experts);
  }
  std::vector<int64_t> window_tokens(s.size);
  std::vector<int64_t> window_probability(s.size);
  std::vector<int64_t> window_active(num_layers);
  int64_t window_num_tokens = 0;
  for (;; std::this_thread::yield()) {
    const uint64_t version = s.version.load(std::memory_order_acquire);
    if (version % 2 != 0) continue;
    snapshot.steps = s.steps.load(std::memory_order_acquire);
    for (size_t layer = 0; layer < num_layers; ++layer) {
      LayerLoad& load = snapshot.layers[layer];
      Copy(s.tokens.data() + layer * num_experts, num_experts, load.tokens.data());
      Copy(s.weight.data() + layer * num_experts, num_experts, load.weight.data());
      load.seconds = s.seconds[layer].load(std::memory_order_acquire);
    }
    Copy(s.window_tokens.data(), s.size, window_tokens.data());
    Copy(s.window_probability.data(), s.size, window_probability.data());
    Copy(s.window_active.data(), num_layers, window_active.data());
    window_num_tokens = s.window_num_tokens.load(std::memory_order_acquire);
    if (s.version.load(std::memory_order_relaxed) == version) break;
  }
  for (size_t layer = 0; layer < num_layers; ++layer) {
    snapshot.layers[layer].layer = s.layers[layer];
    SetBalance(
        {.steps = std::min<int64_t>(snapshot.steps, kWindowSteps),
         .slots = window_num_tokens * s.top_k,
         .num_tokens = window_num_tokens,
         .active = window_active[layer],
         .tokens = absl::MakeConstSpan(window_tokens).subspan(layer * num_experts, num_experts),
         .probability =
             absl::MakeConstSpan(window_probability).subspan(layer * num_experts, num_experts)},
        snapshot.layers[layer]);
  }
  return snapshot;
}

}  // namespace sluice::metrics
