// How deep a JSON text is nested, told before it is parsed: parsers and what they build need
// memory, and some a stack, for every level.
#pragma once

#include "absl/strings/string_view.h"

namespace sluice::tokenizer {

// Arrays and objects inside of each other; tokenizer.json needs about ten.
inline constexpr int kMaxJsonDepth = 64;

// False if `json` has more, up to where it stops being JSON, if it does.
bool IsWithinJsonDepth(absl::string_view json);

}  // namespace sluice::tokenizer
