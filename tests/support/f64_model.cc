#include "support/f64_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/element_types.h"
#include "kernels/reference.h"
#include "model/rope.h"
#include "support/rounding.h"

namespace sluice::testing {

using kernels::ElementType;
using kernels::WeightFormat;
using model::DType;
using model::RopeConfig;

namespace {

WeightFormat FormatOf(F64Model::Rounding rounding) {
  switch (rounding) {
    case F64Model::Rounding::kNone:
      return WeightFormat::kF32;
    case F64Model::Rounding::kBf16:
      return WeightFormat::kBf16;
    case F64Model::Rounding::kInt8:
      return WeightFormat::kInt8;
    case F64Model::Rounding::kInt4:
      return WeightFormat::kInt4;
  }
  return WeightFormat::kF32;
}

}  // namespace

F64Model::F64Model(const model::Checkpoint& checkpoint, Rounding rounding)
    : config_(checkpoint.config()),
      rounding_(rounding),
      inverse_frequencies_(
          model::RopeInverseFrequencies(config_.attention.rope, config_.attention.head_dim)) {
  const model::ModelTensors& tensors = checkpoint.tensors();
  embedding_ = Load(tensors.embedding, false);
  for (const model::LayerTensors& from : tensors.layers) {
    Layer layer;
    layer.attention_norm = LoadVector(from.attention_norm);
    layer.q = Load(from.q, true);
    layer.k = Load(from.k, true);
    layer.v = Load(from.v, true);
    layer.q_bias = LoadVector(from.q_bias);
    layer.k_bias = LoadVector(from.k_bias);
    layer.v_bias = LoadVector(from.v_bias);
    layer.q_norm = LoadVector(from.q_norm);
    layer.k_norm = LoadVector(from.k_norm);
    layer.o = Load(from.o, true);
    layer.o_bias = LoadVector(from.o_bias);
    layer.ffn_norm = LoadVector(from.ffn_norm);
    if (from.router.has_value()) layer.router = Load(*from.router, false);
    for (const model::FfnTensors& expert : from.experts) layer.experts.push_back(Load(expert));
    if (from.shared.has_value()) layer.shared.push_back(Load(*from.shared));
    layer.shared_gate = LoadVector(from.shared_gate);
    if (from.dense.has_value()) layer.dense.push_back(Load(*from.dense));
    layers_.push_back(std::move(layer));
  }
  final_norm_ = LoadVector(tensors.final_norm);
  lm_head_ = Load(tensors.lm_head, true);
}

F64Model::Matrix F64Model::Load(const model::TensorView& tensor, bool product) const {
  const ElementType type = tensor.dtype == DType::kF32   ? ElementType::kF32
                           : tensor.dtype == DType::kF16 ? ElementType::kF16
                                                         : ElementType::kBf16;
  const kernels::SourceView source = {type, tensor.rows, tensor.cols, tensor.data};
  return {tensor.rows, tensor.cols,
          RoundWeights(product ? FormatOf(rounding_) : WeightFormat::kF32, source,
                       &kernels::reference::ReferenceQuantizedOps())};
}

F64Model::Ffn F64Model::Load(const model::FfnTensors& tensors) const {
  return {Load(tensors.gate, true), Load(tensors.up, true), Load(tensors.down, true)};
}

double F64Model::RoundCached(double value) const {
  if (rounding_ == Rounding::kNone) return value;
  return kernels::FloatFromBf16(kernels::Bf16FromFloat(static_cast<float>(value)));
}

F64Model::Vector F64Model::ExactProduct(const Matrix& w, const Vector& x) const {
  Vector y(w.rows);
  for (int64_t n = 0; n < w.rows; ++n)
    y[n] = std::inner_product(x.begin(), x.end(), w.data.begin() + n * w.cols, 0.0);
  return y;
}

F64Model::Vector F64Model::Product(const Matrix& w, const Vector& x) const {
  return ExactProduct(w, RoundRow(FormatOf(rounding_), x));
}

F64Model::Vector F64Model::Normalize(const Vector& x, const Vector& weight) const {
  const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  const double scale =
      1 / std::sqrt(squares / static_cast<double>(x.size()) + double{config_.rms_norm_eps});
  Vector y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weight[i];
  return y;
}

void F64Model::NormalizeHeads(Vector& x, const Vector& weight) const {
  for (size_t i = 0; !weight.empty() && i < x.size(); i += weight.size()) {
    const Vector part = Normalize(Vector(x.begin() + i, x.begin() + i + weight.size()), weight);
    std::copy(part.begin(), part.end(), x.begin() + i);
  }
}

void F64Model::Rotate(Vector& heads, int64_t position) const {
  const int half = config_.attention.head_dim / 2;
  const RopeConfig& rope = config_.attention.rope;
  const double factor = rope.scaling == RopeConfig::Scaling::kYarn ? rope.attention_factor : 1;
  for (size_t head = 0; head < heads.size(); head += 2 * half) {
    for (int i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * inverse_frequencies_[i];
      const double a = heads[head + i];
      const double b = heads[head + half + i];
      heads[head + i] = factor * (a * std::cos(angle) - b * std::sin(angle));
      heads[head + half + i] = factor * (b * std::cos(angle) + a * std::sin(angle));
    }
  }
}

F64Model::Vector F64Model::RunFfn(const Ffn& ffn, const Vector& x) const {
  Vector hidden = Product(ffn.gate, x);
  const Vector up = Product(ffn.up, x);
  for (size_t i = 0; i < hidden.size(); ++i)
    hidden[i] = hidden[i] / (1 + std::exp(-hidden[i])) * up[i];
  return Product(ffn.down, hidden);
}

void F64Model::Attend(const Layer& layer, int index, std::vector<Vector>& x) const {
  const model::AttentionConfig& attention = config_.attention;
  const int head_dim = attention.head_dim;
  const int group = attention.num_heads / attention.num_kv_heads;
  const auto add = [](Vector& to, const Vector& from) {
    for (size_t i = 0; i < from.size(); ++i) to[i] += from[i];
  };
  std::vector<Vector> queries, keys, values;
  for (size_t t = 0; t < x.size(); ++t) {
    const Vector normed = Normalize(x[t], layer.attention_norm);
    Vector q = Product(layer.q, normed);
    Vector k = Product(layer.k, normed);
    Vector v = Product(layer.v, normed);
    add(q, layer.q_bias);
    add(k, layer.k_bias);
    add(v, layer.v_bias);
    NormalizeHeads(q, layer.q_norm);
    NormalizeHeads(k, layer.k_norm);
    if (attention.clip_qkv.has_value()) {
      const double clip = *attention.clip_qkv;
      for (Vector* vector : {&q, &k, &v}) {
        for (double& value : *vector) value = std::clamp(value, -clip, clip);
      }
    }
    Rotate(q, static_cast<int64_t>(t));
    Rotate(k, static_cast<int64_t>(t));
    for (Vector* vector : {&q, &k, &v}) {
      for (double& value : *vector) value = RoundCached(value);
    }
    queries.push_back(std::move(q));
    keys.push_back(std::move(k));
    values.push_back(std::move(v));
  }
  const int64_t window =
      config_.layers[index].sliding_window.value_or(std::numeric_limits<int64_t>::max());
  for (int64_t t = 0; t < static_cast<int64_t>(x.size()); ++t) {
    Vector mixed(queries[t].size(), 0);
    const int64_t first = t < window ? 0 : t - window + 1;
    for (int head = 0; head < attention.num_heads; ++head) {
      const int from = head / group * head_dim;
      Vector p;
      for (int64_t j = first; j <= t; ++j) {
        p.push_back(std::inner_product(keys[j].begin() + from, keys[j].begin() + from + head_dim,
                                       queries[t].begin() + head * head_dim, 0.0) /
                    std::sqrt(static_cast<double>(head_dim)));
      }
      const double max = *std::max_element(p.begin(), p.end());
      for (double& value : p) value = std::exp(value - max);
      const double sum = std::accumulate(p.begin(), p.end(), 0.0);
      for (int64_t j = first; j <= t; ++j) {
        for (int d = 0; d < head_dim; ++d)
          mixed[head * head_dim + d] += RoundCached(p[j - first]) / sum * values[j][from + d];
      }
    }
    add(x[t], Product(layer.o, mixed));
    add(x[t], layer.o_bias);
  }
}

F64Model::Result F64Model::Run(absl::Span<const TokenId> tokens,
                               const std::vector<std::vector<int32_t>>* experts) const {
  const int64_t hidden = config_.hidden_size;
  const int top_k = config_.router.top_k;
  Result result;
  std::vector<Vector> x;
  for (const TokenId token : tokens) {
    x.emplace_back(embedding_.data.begin() + token * hidden,
                   embedding_.data.begin() + (token + 1) * hidden);
  }
  for (size_t index = 0; index < layers_.size(); ++index) {
    const Layer& layer = layers_[index];
    Attend(layer, static_cast<int>(index), x);
    const bool sparse = config_.layers[index].sparse;
    if (sparse) {
      result.experts.emplace_back();
      result.weights.emplace_back();
    }
    for (size_t t = 0; t < x.size(); ++t) {
      const Vector normed = Normalize(x[t], layer.ffn_norm);
      const auto add_scaled = [&](const Vector& from, double scale) {
        for (size_t i = 0; i < from.size(); ++i) x[t][i] += scale * from[i];
      };
      if (!sparse) {
        add_scaled(RunFfn(layer.dense[0], normed), 1);
        continue;
      }
      Vector p = ExactProduct(layer.router, normed);
      const double max = *std::max_element(p.begin(), p.end());
      for (double& value : p) value = std::exp(value - max);
      const double total = std::accumulate(p.begin(), p.end(), 0.0);
      std::vector<int32_t> chosen(p.size());
      std::iota(chosen.begin(), chosen.end(), 0);
      std::stable_sort(chosen.begin(), chosen.end(), [&](int a, int b) { return p[a] > p[b]; });
      chosen.resize(top_k);
      if (experts != nullptr) {
        const std::vector<int32_t>& given = (*experts)[result.experts.size() - 1];
        std::copy_n(given.begin() + t * top_k, top_k, chosen.begin());
      }
      double sum = total;
      if (config_.router.renormalize) {
        sum = 0;
        for (const int32_t expert : chosen) sum += p[expert];
      }
      for (const int32_t expert : chosen) {
        result.experts.back().push_back(expert);
        result.weights.back().push_back(static_cast<float>(p[expert] / sum));
        add_scaled(RunFfn(layer.experts[expert], normed), p[expert] / sum);
      }
      if (!layer.shared.empty()) {
        double gate = 1;
        if (!layer.shared_gate.empty()) {
          gate = 1 / (1 + std::exp(-std::inner_product(normed.begin(), normed.end(),
                                                       layer.shared_gate.begin(), 0.0)));
        }
        add_scaled(RunFfn(layer.shared[0], normed), gate);
      }
    }
  }
  for (const Vector& row : x) {
    for (const double logit : Product(lm_head_, Normalize(row, final_norm_)))
      result.logits.push_back(static_cast<float>(logit));
  }
  return result;
}

}  // namespace sluice::testing
