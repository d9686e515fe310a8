// Turns JSON into values of templates.
#pragma once

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "tokenizer/jinja/value.h"

namespace sluice::tokenizer::jinja {

// Arrays and objects inside of each other.
inline constexpr int kMaxJsonDepth = 100;

// `json` as Python's json module reads it; objects keep their order. INVALID_ARGUMENT if it is
// deeper than kMaxJsonDepth or has an integer of more than 64 bits.
absl::StatusOr<Value> FromJson(const nlohmann::ordered_json& json);

}  // namespace sluice::tokenizer::jinja
