#include "model/weights.h"

#include <array>
#include <cstring>

#include "absl/types/span.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace sluice::model {
namespace {

using kernels::PackedMatrix;
using kernels::SourceView;
using kernels::WeightFormat;

kernels::ElementType ElementTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return kernels::ElementType::kF32;
    case DType::kF16:
      return kernels::ElementType::kF16;
    case DType::kBf16:
      return kernels::ElementType::kBf16;
  }
  CHECK(false);
}

SourceView SourceOf(const TensorView& tensor) {
  return {ElementTypeOf(tensor.dtype), tensor.rows, tensor.cols, tensor.data};
}

int64_t Count(const TensorView& tensor) { return tensor.rows * tensor.cols; }

enum Kind {
  kAttention,
  kExperts,
  kShared,
  kDense,
  kRouter,
  kEmbedding,
  kLmHead,
  kNorms,
  kNumKinds
};
constexpr std::array<const char*, kNumKinds> kKindNames = {
    "attention", "experts", "shared", "dense", "router", "embedding", "lm_head", "norms"};

// Turns tensors into weights one by one, and keeps the accounts.
class Packer {
 public:
  Packer(const Checkpoint& checkpoint, const Weights::Packing& packing)
      : checkpoint_(checkpoint), config_(checkpoint.config()), packing_(packing) {}

  absl::StatusOr<Weights> Run() {
    ASSIGN_OR_RETURN(base::Arena arena,
                     base::Arena::Reserve(Weights::PackedBytes(checkpoint_, packing_.format),
                                          base::MappedMemory::Pages::kHuge));
    arena_ = &arena;
    const ModelTensors& tensors = checkpoint_.tensors();
    Weights weights;
    // Before the embedding, whose pages it shares if tied.
    weights.lm_head = Matrix(kLmHead, {tensors.lm_head});
    if (config_.tied_embeddings) parameters_ -= Count(tensors.lm_head);
    weights.embedding = MakeEmbedding(tensors.embedding);
    weights.layers.reserve(tensors.layers.size());
    for (const LayerTensors& layer : tensors.layers) weights.layers.push_back(Layer(layer));
    weights.final_norm = Vector(kNorms, tensors.final_norm);

    for (int kind = 0; kind < kNumKinds; ++kind)
      weights.size.bytes.emplace_back(kKindNames[kind], bytes_[kind]);
    weights.size.parameters = parameters_;
    weights.size.active_parameters = parameters_ - idle_parameters_;
    CHECK(arena.taken() == Weights::PackedBytes(checkpoint_, packing_.format));
    weights.memory = std::move(arena);
    return weights;
  }

 private:
  LayerWeights Layer(const LayerTensors& tensors) {
    LayerWeights layer;
    layer.attention_norm = Vector(kNorms, tensors.attention_norm);
    layer.qkv = Matrix(kAttention, {tensors.q, tensors.k, tensors.v});
    if (tensors.q_bias.has_value() || tensors.k_bias.has_value() || tensors.v_bias.has_value()) {
      AppendBias(tensors.q_bias, tensors.q.rows, layer.qkv_bias);
      AppendBias(tensors.k_bias, tensors.k.rows, layer.qkv_bias);
      AppendBias(tensors.v_bias, tensors.v.rows, layer.qkv_bias);
    }
    if (tensors.q_norm.has_value()) layer.q_norm = Vector(kNorms, *tensors.q_norm);
    if (tensors.k_norm.has_value()) layer.k_norm = Vector(kNorms, *tensors.k_norm);
    layer.o = Matrix(kAttention, {tensors.o});
    if (tensors.o_bias.has_value()) layer.o_bias = Vector(kAttention, *tensors.o_bias);
    layer.ffn_norm = Vector(kNorms, tensors.ffn_norm);
    if (tensors.router.has_value())
      layer.router = Pack(kRouter, WeightFormat::kF32, {*tensors.router});
    layer.experts.reserve(tensors.experts.size());
    for (const FfnTensors& expert : tensors.experts) layer.experts.push_back(Ffn(kExperts, expert));
    if (!tensors.experts.empty()) {
      const FfnTensors& expert = tensors.experts[0];
      idle_parameters_ += (static_cast<int64_t>(tensors.experts.size()) - config_.router.top_k) *
                          (Count(expert.gate) + Count(expert.up) + Count(expert.down));
    }
    if (tensors.shared.has_value()) layer.shared = Ffn(kShared, *tensors.shared);
    if (tensors.shared_gate.has_value()) layer.shared_gate = Vector(kShared, *tensors.shared_gate);
    if (tensors.dense.has_value()) layer.dense = Ffn(kDense, *tensors.dense);
    return layer;
  }

  PackedMatrix Matrix(Kind kind, std::initializer_list<TensorView> tensors) {
    return Pack(kind, packing_.format, tensors);
  }

  PackedMatrix Pack(Kind kind, WeightFormat format, std::initializer_list<TensorView> tensors) {
    std::vector<SourceView> sources;
    for (const TensorView& tensor : tensors) sources.push_back(SourceOf(tensor));
    PackedMatrix matrix = PackedMatrix::Pack(PackingAs(format), sources);
    for (const TensorView& tensor : tensors) Done(tensor);
    bytes_[kind] += matrix.bytes();
    return matrix;
  }

  FfnWeights Ffn(Kind kind, const FfnTensors& tensors) {
    FfnWeights ffn;
    ffn.gate_up = PackedMatrix::PackPair(PackingAs(packing_.format), SourceOf(tensors.gate),
                                         SourceOf(tensors.up));
    Done(tensors.gate);
    Done(tensors.up);
    bytes_[kind] += ffn.gate_up.bytes();
    ffn.down = Matrix(kind, {tensors.down});
    return ffn;
  }

  PackedMatrix::Packing PackingAs(WeightFormat format) const {
    return {
        .format = format, .quantized = packing_.quantized, .pool = packing_.pool, .arena = arena_};
  }

  std::vector<float> Vector(Kind kind, const TensorView& tensor) {
    std::vector<float> vector(Count(tensor));
    for (size_t i = 0; i < vector.size(); ++i)
      vector[i] =
          kernels::LoadElement(ElementTypeOf(tensor.dtype), tensor.data, static_cast<int64_t>(i));
    Done(tensor);
    bytes_[kind] += static_cast<int64_t>(vector.size() * sizeof(float));
    return vector;
  }

  // An absent bias is zero.
  void AppendBias(const std::optional<TensorView>& tensor, int64_t size, std::vector<float>& bias) {
    const std::vector<float> part =
        tensor.has_value() ? Vector(kAttention, *tensor) : std::vector<float>(size, 0.0f);
    bias.insert(bias.end(), part.begin(), part.end());
  }

  Embedding MakeEmbedding(const TensorView& tensor) {
    const int64_t row_bytes = static_cast<int64_t>(tensor.bytes()) / tensor.rows;
    std::byte* data = arena_->Take(static_cast<int64_t>(tensor.bytes()));
    packing_.pool->ParallelFor(tensor.rows, [&](int64_t row, int) {
      std::memcpy(data + row * row_bytes, tensor.data + row * row_bytes, row_bytes);
    });
    Done(tensor);
    bytes_[kEmbedding] += static_cast<int64_t>(tensor.bytes());
    return {ElementTypeOf(tensor.dtype), tensor.cols, data};
  }

  void Done(const TensorView& tensor) {
    checkpoint_.Release(tensor);
    parameters_ += Count(tensor);
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const Weights::Packing packing_;
  base::Arena* arena_ = nullptr;
  std::array<int64_t, kNumKinds> bytes_{};
  int64_t parameters_ = 0;
  // Of the experts that a token does not go to.
  int64_t idle_parameters_ = 0;
};

// Calls add(bytes) for every piece of the arena that packing takes.
template <typename Add>
void ForPieces(const Checkpoint& checkpoint, WeightFormat format, Add add) {
  const ModelTensors& tensors = checkpoint.tensors();
  const auto add_matrix = [&](int64_t rows, int64_t cols) {
    add(PackedMatrix::ArenaBytes(format, rows, cols));
  };
  const auto add_ffn = [&](const FfnTensors& ffn) {
    add_matrix(PackedMatrix::PairColumns(ffn.gate.rows), ffn.gate.cols);
    add_matrix(ffn.down.rows, ffn.down.cols);
  };
  add_matrix(tensors.lm_head.rows, tensors.lm_head.cols);
  add(base::Arena::RoundUp(static_cast<int64_t>(tensors.embedding.bytes())));
  for (const LayerTensors& layer : tensors.layers) {
    add_matrix(layer.q.rows + layer.k.rows + layer.v.rows, layer.q.cols);
    add_matrix(layer.o.rows, layer.o.cols);
    if (layer.router.has_value()) {
      add(PackedMatrix::ArenaBytes(WeightFormat::kF32, layer.router->rows, layer.router->cols));
    }
    for (const FfnTensors& expert : layer.experts) add_ffn(expert);
    if (layer.shared.has_value()) add_ffn(*layer.shared);
    if (layer.dense.has_value()) add_ffn(*layer.dense);
  }
}

}  // namespace

void Embedding::Lookup(TokenId token, float* to) const {
  const std::byte* row = data + token * size * static_cast<int64_t>(kernels::BytesOf(type));
  for (int64_t i = 0; i < size; ++i) to[i] = kernels::LoadElement(type, row, i);
}

int64_t Weights::PackedBytes(const Checkpoint& checkpoint, WeightFormat format) {
  int64_t sum = 0;
  ForPieces(checkpoint, format, [&](int64_t bytes) { sum += bytes; });
  return sum;
}

absl::StatusOr<Weights> Weights::Pack(const Checkpoint& checkpoint, const Packing& packing) {
  return Packer(checkpoint, packing).Run();
}

}  // namespace sluice::model
