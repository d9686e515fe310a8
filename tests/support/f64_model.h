// F64Model: the forward pass a second time, in double, token by token and straight from the
// checkpoint's tensors. The truth for whole models, and the simulation of what a format
// of weights costs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "base/token.h"
#include "model/checkpoint.h"

namespace sluice::testing {

class F64Model {
 public:
  // Of every weight and every activation that enters a product, as the engine does with weights of
  // that format; those of the router, the norms and the embedding stay exact.
  // With any of them keys and values in the cache, and what meets them, are rounded to bf16.
  enum class Rounding { kNone, kBf16, kInt8, kInt4 };

  F64Model(const model::Checkpoint& checkpoint, Rounding rounding);

  struct Result {
    std::vector<float> logits;                  // [T, V]
    std::vector<std::vector<int32_t>> experts;  // per sparse layer [T, K], most probable first
    std::vector<std::vector<float>> weights;    // per sparse layer [T, K]
  };

  // Computes the whole of `tokens`. With `experts` (laid out as in the result) those are used in
  // place of the router's choice.
  Result Run(absl::Span<const TokenId> tokens,
             const std::vector<std::vector<int32_t>>* experts = nullptr) const;

 private:
  using Vector = std::vector<double>;
  struct Matrix {
    int64_t rows = 0;
    int64_t cols = 0;
    Vector data;
  };
  struct Ffn {
    Matrix gate, up, down;
  };
  struct Layer {
    Vector attention_norm, q_bias, k_bias, v_bias, q_norm, k_norm, o_bias, ffn_norm, shared_gate;
    Matrix q, k, v, o, router;
    std::vector<Ffn> experts;
    std::vector<Ffn> shared, dense;  // one or none
  };

  Matrix Load(const model::TensorView& tensor, bool product) const;
  Vector LoadVector(const model::TensorView& tensor) const { return Load(tensor, false).data; }
  Vector LoadVector(const std::optional<model::TensorView>& tensor) const {
    return tensor.has_value() ? LoadVector(*tensor) : Vector();
  }
  Ffn Load(const model::FfnTensors& tensors) const;

  // w x, both rounded (the router's are not).
  Vector Product(const Matrix& w, const Vector& x) const;
  // As attention sees a number: in bf16 with any rounding.
  double RoundCached(double value) const;
  Vector ExactProduct(const Matrix& w, const Vector& x) const;
  Vector Normalize(const Vector& x, const Vector& weight) const;
  void NormalizeHeads(Vector& x, const Vector& weight) const;
  void Rotate(Vector& heads, int64_t position) const;
  Vector RunFfn(const Ffn& ffn, const Vector& x) const;
  void Attend(const Layer& layer, int index, std::vector<Vector>& x) const;

  const model::ModelConfig config_;
  const Rounding rounding_;
  std::vector<float> inverse_frequencies_;
  std::vector<Layer> layers_;
  Matrix embedding_, lm_head_;
  Vector final_norm_;
};

}  // namespace sluice::testing
