// Runs a template's syntax tree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/value.h"

namespace sluice::tokenizer::jinja {

inline constexpr size_t kMaxOutputBytes = size_t{16} << 20;
// Nodes of the tree evaluated, rounds of loops, elements copied, and every 64 bytes of text copied,
// compared or searched through.
inline constexpr int64_t kMaxSteps = 10'000'000;

using Variables = absl::flat_hash_map<std::string, Value>;

// The text that `body` writes. INVALID_ARGUMENT, naming the place, if it cannot be evaluated or
// goes beyond a limit; UNIMPLEMENTED, naming the place, if it uses a method of a value.
absl::StatusOr<std::string> Evaluate(const Body& body, const Variables& variables);

}  // namespace sluice::tokenizer::jinja
