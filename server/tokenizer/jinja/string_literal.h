// Escape sequences of string literals.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::tokenizer::jinja {

// What the text between the quotes of a literal stands for, under Python's rules: \n \t \r \a \b \f
// \v \\ \' \" \ooo \xhh \uhhhh \Uhhhhhhhh, a backslash before a line break joins the lines, and a
// backslash before anything else stays.
// INVALID_ARGUMENT for an incomplete escape or one that is no character, UNIMPLEMENTED for
// \N{name}.
absl::StatusOr<std::string> Unescape(absl::string_view literal);

}  // namespace sluice::tokenizer::jinja
