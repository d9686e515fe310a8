// A checkpoint made of any bytes must end in an error, or in a model whose views can be read.
//
//   0                     2            2 + n
//   +---------------------+------------+-------------------+
//   | n: u16, little end. | config     | model.safetensors |
//   +---------------------+------------+-------------------+
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/check.h"
#include "model/families/families.h"
#include "model/generation_defaults.h"
#include "model/json.h"
#include "model/safetensors.h"
#include "model/tensor_finder.h"

namespace sluice::model {
namespace {

class Reader {
 public:
  explicit Reader(absl::Span<const std::byte> bytes) : bytes_(bytes) {}

  void Read(const ModelTensors& tensors) {
    Read(tensors.embedding);
    Read(tensors.final_norm);
    Read(tensors.lm_head);
    for (const LayerTensors& layer : tensors.layers) Read(layer);
  }

 private:
  void Read(const LayerTensors& layer) {
    for (const TensorView* view :
         {&layer.attention_norm, &layer.q, &layer.k, &layer.v, &layer.o, &layer.ffn_norm}) {
      Read(*view);
    }
    for (const std::optional<TensorView>* view :
         {&layer.q_bias, &layer.k_bias, &layer.v_bias, &layer.o_bias, &layer.q_norm, &layer.k_norm,
          &layer.router, &layer.shared_gate}) {
      if (*view) Read(**view);
    }
    for (const FfnTensors& expert : layer.experts) Read(expert);
    if (layer.shared) Read(*layer.shared);
    if (layer.dense) Read(*layer.dense);
  }

  void Read(const FfnTensors& ffn) {
    Read(ffn.gate);
    Read(ffn.up);
    Read(ffn.down);
  }

  void Read(const TensorView& view) {
    CHECK(view.rows > 0 && view.cols > 0);
    const auto offset = static_cast<size_t>(view.data - bytes_.data());
    CHECK(offset <= bytes_.size() && view.bytes() <= bytes_.size() - offset);
    for (size_t i = 0; i < view.bytes(); ++i) {
      sum_ = sum_ + std::to_integer<uint8_t>(view.data[i]);
    }
  }

  absl::Span<const std::byte> bytes_;
  volatile uint8_t sum_ = 0;
};

void Open(absl::string_view config_text, absl::Span<const std::byte> file) {
  auto entries = ParseSafetensors("file", file);
  const auto json = ParseJsonObject("config", config_text);
  if (!json.ok()) return;
  const JsonObject config_json("config", *json);
  const auto family = FindFamily(config_json);
  if (!family.ok()) return;
  const auto config = (*family)->translate(config_json);
  TranslateGenerationDefaults(config_json, &config_json, (*family)->default_eos).IgnoreError();
  if (!config.ok() || !entries.ok()) return;
  CHECK(config->num_layers() > 0 && config->router.top_k <= config->router.num_experts);
  CHECK(config->attention.num_heads % config->attention.num_kv_heads == 0);
  TensorFinder finder("file");
  CHECK(finder.Add("file", *std::move(entries)).ok());
  const auto tensors = (*family)->bind(finder, *config);
  if (tensors.ok()) Reader(file).Read(*tensors);
}

}  // namespace
}  // namespace sluice::model

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kLengthBytes = 2;
  if (size < kLengthBytes) return 0;
  const size_t config_bytes = data[0] | data[1] << 8;
  if (config_bytes > size - kLengthBytes) return 0;
  const auto* config = reinterpret_cast<const char*>(data) + kLengthBytes;
  sluice::model::Open({config, config_bytes},
                      {reinterpret_cast<const std::byte*>(config) + config_bytes,
                       size - kLengthBytes - config_bytes});
  return 0;
}
