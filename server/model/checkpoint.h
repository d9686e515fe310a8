// A checkpoint as it lies on disk: its configuration, and a view of every tensor that the model
// needs, all validated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/config.h"

namespace sluice::model {

enum class DType { kF32, kF16, kBf16 };

// Bytes of one element.
size_t SizeOf(DType dtype);

// A matrix in the mapped file: row-major and contiguous; a linear layer's is [out, in]. A vector
// has one row.
struct TensorView {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  // rows * cols elements, not necessarily aligned to their size.
  const std::byte* data = nullptr;

  size_t bytes() const { return static_cast<size_t>(rows) * cols * SizeOf(dtype); }
};

// A SwiGLU feed-forward network: down(silu(gate x) * up x). H = hidden size, F = its width.
struct FfnTensors {
  TensorView gate;  // [F, H]
  TensorView up;    // [F, H]
  TensorView down;  // [H, F]
};

// Q = num_heads * head_dim, KV = num_kv_heads * head_dim.
struct LayerTensors {
  TensorView attention_norm;                         // [1, H]
  TensorView q, k, v;                                // [Q, H], [KV, H], [KV, H]
  std::optional<TensorView> q_bias, k_bias, v_bias;  // [1, Q], [1, KV], [1, KV]
  std::optional<TensorView> q_norm, k_norm;          // [1, head_dim] each, or [1, Q] and [1, KV]
  TensorView o;                                      // [H, Q]
  std::optional<TensorView> o_bias;                  // [1, H]
  TensorView ffn_norm;                               // [1, H]
  // A sparse layer has a router and experts, a dense one has `dense`.
  std::optional<TensorView> router;  // [E, H]
  std::vector<FfnTensors> experts;   // E entries
  std::optional<FfnTensors> shared;
  std::optional<TensorView> shared_gate;  // [1, H]
  std::optional<FfnTensors> dense;
};

struct ModelTensors {
  TensorView embedding;  // [V, H]
  std::vector<LayerTensors> layers;
  TensorView final_norm;  // [1, H]
  TensorView lm_head;     // [V, H]; the embedding's view if tied
};

// Owns the mapped files; its views live as long as it does. Immutable; may be read from any thread.
// The files must not be changed meanwhile: reading beyond the end of one that another process
// truncated raises SIGBUS.
class Checkpoint {
 public:
  // Opens a Hugging Face folder: config.json, generation_config.json (optional), and
  // model.safetensors or the shards that model.safetensors.index.json names. Errors are one
  // sentence that names file, tensor and field:
  //   NOT_FOUND         a file or tensor is missing
  //   INVALID_ARGUMENT  a file is malformed, or a field, shape, dtype or offset is wrong
  //   UNIMPLEMENTED     the family or a field's value is not supported
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& folder);

  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const GenerationDefaults& generation_defaults() const = 0;
  virtual const ModelTensors& tensors() const = 0;

  // Tells the kernel that the pages of `tensor` are not needed again, so that packing does not hold
  // the source in memory. The view stays valid: reading it again reads the file again. Pages that
  // it shares with other tensors stay, so up to two pages per tensor do.
  virtual void Release(const TensorView& tensor) const = 0;
};

}  // namespace sluice::model
