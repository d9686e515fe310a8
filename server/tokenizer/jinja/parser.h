// Turns a template's source into its syntax tree.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tokenizer/jinja/ast.h"

namespace sluice::tokenizer::jinja {

// Blocks, brackets and subscripts inside of each other.
inline constexpr int kMaxNesting = 100;

// INVALID_ARGUMENT for what is not a template or is beyond a limit, UNIMPLEMENTED for a part of
// Jinja that is not supported; both name the place, and of several faults the first.
absl::StatusOr<Body> Parse(absl::string_view source);

}  // namespace sluice::tokenizer::jinja
