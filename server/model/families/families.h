// The model families that Sluice serves. A family is a translation: from its config.json to a
// ModelConfig, and from its tensor names to a model's slots. There is one file for each.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/token.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/json.h"
#include "model/tensor_finder.h"

namespace sluice::model {

struct Family {
  absl::string_view model_type;
  // eos_token_id where config.json has none.
  std::optional<TokenId> default_eos;
  // INVALID_ARGUMENT if a field makes no sense; UNIMPLEMENTED if it asks for something that the
  // forward pass does not do. Fields that have no effect on inference are not looked at.
  absl::StatusOr<ModelConfig> (*translate)(const JsonObject& config);
  // The tensors that `config` asks for; errors are the finder's.
  absl::StatusOr<ModelTensors> (*bind)(const TensorFinder& finder, const ModelConfig& config);
};

extern const Family kMixtral;
extern const Family kQwen3Moe;
extern const Family kOlmoe;
extern const Family kQwen2Moe;

// All of them, in the order in which error messages list them.
absl::Span<const Family* const> Families();

// The family that config.json names as model_type. INVALID_ARGUMENT if it names none, UNIMPLEMENTED
// if it is none of Families().
absl::StatusOr<const Family*> FindFamily(const JsonObject& config);

}  // namespace sluice::model
