// Binds the tensors of a decoder whose attention, norms and embeddings have the names that all
// families took over from Llama.
#pragma once

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/tensor_finder.h"

namespace sluice::model {

// Binds the router and experts, or dense FFN, of one layer; `prefix` is "model.layers.N.".
using BindFfnPart = absl::FunctionRef<absl::Status(
    const TensorFinder& finder, const ModelConfig& config, const LayerConfig& layer,
    const std::string& prefix, LayerTensors& tensors)>;

absl::StatusOr<ModelTensors> BindDecoder(const TensorFinder& finder, const ModelConfig& config,
                                         BindFfnPart bind_ffn);

// The names of the three matrices in an FFN: <prefix><gate>.weight, and so on.
struct FfnNames {
  const char* gate;
  const char* up;
  const char* down;
};

absl::StatusOr<FfnTensors> BindFfn(const TensorFinder& finder, const std::string& prefix,
                                   const FfnNames& names, int width, int hidden_size);

// The router <prefix>gate.weight and the experts <prefix>experts.N.
absl::Status BindExperts(const TensorFinder& finder, const ModelConfig& config,
                         const std::string& prefix, const FfnNames& names, LayerTensors& tensors);

// A BindFfnPart: everything under "mlp.", with gate_proj, up_proj and down_proj; a shared expert if
// `config` has one.
absl::Status BindMlp(const TensorFinder& finder, const ModelConfig& config,
                     const LayerConfig& layer, const std::string& prefix, LayerTensors& tensors);

}  // namespace sluice::model
