#include "model/transformer.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "model/router.h"

namespace sluice::model {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The checkpoint has validated its tensors' shapes: what could be wrong here is our packing.
void CheckShapes(const ModelConfig& config, const Weights& weights) {
  const auto check = [](const kernels::PackedMatrix& matrix, int64_t k, int64_t n) {
    CHECK(matrix.k() == k && matrix.n() == n);
  };
  const auto check_ffn = [&](const FfnWeights& ffn, int64_t hidden, int64_t size) {
    const int64_t padded =
        (size + kernels::kBlockColumns - 1) / kernels::kBlockColumns * kernels::kBlockColumns;
    check(ffn.gate_up, hidden, 2 * padded);
    check(ffn.down, size, hidden);
  };
  const int64_t hidden = config.hidden_size;
  const int64_t q = int64_t{config.attention.num_heads} * config.attention.head_dim;
  const int64_t kv = int64_t{config.attention.num_kv_heads} * config.attention.head_dim;
  CHECK(weights.layers.size() == config.layers.size());
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    check(layer.qkv, hidden, q + 2 * kv);
    check(layer.o, q, hidden);
    if (config.layers[i].sparse) {
      check(layer.router, hidden, config.router.num_experts);
      CHECK(static_cast<int>(layer.experts.size()) == config.router.num_experts);
      for (const FfnWeights& expert : layer.experts)
        check_ffn(expert, hidden, config.expert_ffn_size);
      CHECK(layer.shared.has_value() == (config.shared_ffn_size > 0));
      if (layer.shared.has_value()) check_ffn(*layer.shared, hidden, config.shared_ffn_size);
      CHECK(layer.shared_gate.empty() || static_cast<int64_t>(layer.shared_gate.size()) == hidden);
    } else {
      CHECK(layer.dense.has_value());
      check_ffn(*layer.dense, hidden, config.dense_ffn_size);
    }
  }
  check(weights.lm_head, hidden, config.vocab_size);
}

int NumSparseLayers(const ModelConfig& config) {
  return static_cast<int>(std::count_if(config.layers.begin(), config.layers.end(),
                                        [](const LayerConfig& layer) { return layer.sparse; }));
}

const float* BiasOf(const std::vector<float>& bias) { return bias.empty() ? nullptr : bias.data(); }

}  // namespace

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(const ModelConfig& config,
                                                                 const Weights& weights,
                                                                 kernels::Compute& compute,
                                                                 KvCache& cache,
                                                                 const Limits& limits) {
  CheckShapes(config, weights);
  // A sequence can neither outgrow the context nor the cache.
  const int64_t max_positions =
      std::min(config.max_context, int64_t{cache.num_blocks()} * kKvBlockTokens);
  ASSIGN_OR_RETURN(Attention attention,
                   Attention::Create(config, compute, cache, max_positions, limits.max_step_tokens,
                                     limits.max_step_sequences));
  return std::unique_ptr<Transformer>(
      new Transformer(config, weights, compute, std::move(attention), limits));
}

Transformer::Transformer(const ModelConfig& config, const Weights& weights,
                         kernels::Compute& compute, Attention attention, const Limits& limits)
    : config_(config),
      weights_(weights),
      compute_(compute),
      attention_(std::move(attention)),
      feed_forward_(config, compute, limits.max_step_tokens),
      route_counts_(compute.ops(), NumSparseLayers(config), config.router.num_experts) {
  const size_t tokens = limits.max_step_tokens;
  const size_t hidden = config.hidden_size;
  const size_t head_dim = config.attention.head_dim;
  const size_t q_size = config.attention.num_heads * head_dim;
  const size_t kv_size = config.attention.num_kv_heads * head_dim;
  x_ = kernels::AlignedBuffer<float>(tokens * hidden);
  normed_ = kernels::AlignedBuffer<float>(tokens * hidden);
  qkv_ = kernels::AlignedBuffer<float>(tokens * (q_size + 2 * kv_size));
  attended_ = kernels::AlignedBuffer<float>(tokens * q_size);
  probabilities_ = kernels::AlignedBuffer<float>(tokens * config.router.num_experts);
  experts_ = kernels::AlignedBuffer<int32_t>(tokens * config.router.top_k);
  route_weights_ = kernels::AlignedBuffer<float>(tokens * config.router.top_k);
  last_hidden_ = kernels::AlignedBuffer<float>(kMaxLogitRows * hidden);
  logits_ = kernels::AlignedBuffer<float>(kMaxLogitRows * static_cast<size_t>(config.vocab_size));
}

void Transformer::Forward(const StepBatch& batch, StepObserver* observer) {
  num_rows_ = batch.num_rows();
  Embed(batch);  // tokens [T] -> x [T, H]
  attention_.BeginStep(batch);
  route_counts_.Begin(num_rows_);
  int sparse_layer = 0;
  for (int layer = 0; layer < config_.num_layers(); ++layer) {
    const LayerWeights& weights = weights_.layers[layer];
    Normalize(weights.attention_norm);  // x -> normed [T, H]
    compute_.Matmul(normed_.data(), num_rows_, weights.qkv, {.bias = BiasOf(weights.qkv_bias)},
                    qkv_.data());  // [T, H] -> [T, Q + KV + KV]
    attention_.StoreKeysAndValues(layer, weights, qkv_.data());
    attention_.Attend(layer, qkv_.data(), attended_.data());  // -> [T, Q]
    compute_.Matmul(attended_.data(), num_rows_, weights.o,
                    {.bias = BiasOf(weights.o_bias), .add = true}, x_.data());  // x += [T, H]

    Normalize(weights.ffn_norm);
    if (config_.layers[layer].sparse) {
      const auto start = std::chrono::steady_clock::now();
      const Routes routes = Route(layer, sparse_layer, weights, observer);  // [T, K]
      feed_forward_.RunExperts(weights, routes, normed_.data(), num_rows_,
                               x_.data());  // x += [T, H]
      route_counts_.SetSeconds(sparse_layer++, SecondsSince(start));
    } else {
      feed_forward_.RunDense(weights, normed_.data(), num_rows_, x_.data());  // x += [T, H]
    }
  }
}

void Transformer::Embed(const StepBatch& batch) {
  compute_.ForRows(num_rows_, [&](int64_t row, int) {
    const TokenId token = batch.token(row);
    DCHECK(token >= 0 && token < config_.vocab_size);
    weights_.embedding.Lookup(compute_.ops(), token, x_.data() + row * config_.hidden_size);
  });
}

void Transformer::Normalize(const std::vector<float>& weight) {
  const int64_t size = config_.hidden_size;
  compute_.ForRows(num_rows_, [&](int64_t row, int) {
    compute_.ops().rms_norm(x_.data() + row * size, weight.data(), config_.rms_norm_eps,
                            normed_.data() + row * size, size);
  });
}

Routes Transformer::Route(int layer, int sparse_layer, const LayerWeights& weights,
                          StepObserver* observer) {
  const size_t num_experts = config_.router.num_experts;
  const size_t top_k = config_.router.top_k;
  const auto probabilities = [&](int64_t row) {
    return absl::MakeSpan(probabilities_.data() + row * num_experts, num_experts);
  };
  const auto experts = [&](int64_t row) {
    return absl::MakeSpan(experts_.data() + row * top_k, top_k);
  };
  const size_t num_routes = num_rows_ * top_k;

  compute_.Matmul(normed_.data(), num_rows_, weights.router, {}, probabilities_.data());
  compute_.ForRows(num_rows_, [&](int64_t row, int) {
    compute_.ops().softmax(probabilities(row).data(), static_cast<int64_t>(num_experts));
    ChooseExperts(probabilities(row), experts(row));
  });
  const absl::Span<const float> all_probabilities(probabilities_.data(), num_rows_ * num_experts);
  if (observer != nullptr) {
    observer->OnRoutes(layer, all_probabilities, absl::MakeSpan(experts_.data(), num_routes));
  }
  compute_.ForRows(num_rows_, [&](int64_t row, int) {
    WeighExperts(probabilities(row), experts(row), config_.router.renormalize,
                 absl::MakeSpan(route_weights_.data() + row * top_k, top_k));
  });
  const Routes routes = {.experts = {experts_.data(), num_routes},
                         .weights = {route_weights_.data(), num_routes}};
  if (observer != nullptr) observer->OnRouteWeights(layer, routes.experts, routes.weights);
  route_counts_.Count(sparse_layer, routes, all_probabilities);
  return routes;
}

absl::Span<float> Transformer::Logits(absl::Span<const int64_t> rows) {
  DCHECK(rows.size() <= kMaxLogitRows);
  const int64_t hidden_size = config_.hidden_size;
  compute_.ForRows(static_cast<int64_t>(rows.size()), [&](int64_t i, int) {
    compute_.ops().rms_norm(x_.data() + rows[i] * hidden_size, weights_.final_norm.data(),
                            config_.rms_norm_eps, last_hidden_.data() + i * hidden_size,
                            hidden_size);
  });
  compute_.Matmul(last_hidden_.data(), static_cast<int64_t>(rows.size()), weights_.lm_head, {},
                  logits_.data());
  return {logits_.data(), rows.size() * config_.vocab_size};
}

}  // namespace sluice::model
