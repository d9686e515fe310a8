// Translates generation_config.json.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "base/token.h"
#include "model/config.h"
#include "model/json.h"

namespace sluice::model {

// `generation` is null if there is no generation_config.json. End tokens are its eos_token_id, or
// that of config.json where it has none; an absent one there is `default_eos`. INVALID_ARGUMENT if
// a field makes no sense.
absl::StatusOr<GenerationDefaults> TranslateGenerationDefaults(const JsonObject& config,
                                                               const JsonObject* generation,
                                                               std::optional<TokenId> default_eos);

}  // namespace sluice::model
