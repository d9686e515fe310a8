// Weights: a checkpoint's tensors in the form that the forward pass multiplies with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/arena.h"
#include "base/thread_pool.h"
#include "base/token.h"
#include "kernels/packed_matrix.h"
#include "model/checkpoint.h"

namespace sluice::model {

// A SwiGLU feed-forward network of width F.
struct FfnWeights {
  // Blocks of gate and up in turn, so that both products of a tile meet: [H] -> 2 * ceil32(F)
  kernels::PackedMatrix gate_up;
  kernels::PackedMatrix down;  // [F] -> H
};

// Vectors are f32; an empty one is absent. Q = heads * head_dim, KV = kv heads * head_dim.
struct LayerWeights {
  std::vector<float> attention_norm;  // [H]
  kernels::PackedMatrix qkv;          // [H] -> Q + KV + KV
  std::vector<float> qkv_bias;        // [Q + KV + KV]
  std::vector<float> q_norm, k_norm;  // [head_dim], or [Q] and [KV]
  kernels::PackedMatrix o;            // [Q] -> H
  std::vector<float> o_bias;          // [H]
  std::vector<float> ffn_norm;        // [H]
  kernels::PackedMatrix router;       // [H] -> E, always f32
  std::vector<FfnWeights> experts;    // E
  std::optional<FfnWeights> shared;
  std::vector<float> shared_gate;  // [H]
  std::optional<FfnWeights> dense;
};

// The embedding stays in the checkpoint's own type.
struct Embedding {
  kernels::ElementType type = kernels::ElementType::kF32;
  int64_t size = 0;                 // H
  const std::byte* data = nullptr;  // [V, H]

  // Writes the token's vector [H] to `to`.
  void Lookup(TokenId token, float* to) const;
};

// What the weights amount to.
struct WeightsSize {
  // In memory, by kind: attention, experts, shared, dense, router, embedding, lm_head, norms.
  std::vector<std::pair<std::string, int64_t>> bytes;
  // Parameters of the checkpoint (a tied embedding counts once), and those that one token meets.
  int64_t parameters = 0;
  int64_t active_parameters = 0;
};

// Immutable once packed; may be read from any thread. Router, norms and embedding keep their
// precision whatever the format.
struct Weights {
  // How to pack; everything outlives the call.
  struct Packing {
    kernels::WeightFormat format = kernels::WeightFormat::kF32;
    const kernels::QuantizedOps* quantized = nullptr;  // for int8 and int4
    base::ThreadPool* pool = nullptr;
  };

  std::optional<base::Arena> memory;  // of all matrices and the embedding
  Embedding embedding;
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;  // [H]
  kernels::PackedMatrix lm_head;  // [H] -> V
  WeightsSize size;

  // What Pack will reserve in one stretch.
  static int64_t PackedBytes(const Checkpoint& checkpoint, kernels::WeightFormat format);

  // Packs tensor by tensor, each in parallel, and releases its pages in the checkpoint at once.
  // RESOURCE_EXHAUSTED if the address space is not to be had.
  static absl::StatusOr<Weights> Pack(const Checkpoint& checkpoint, const Packing& packing);
};

}  // namespace sluice::model
