// Characters of UTF-8 text, classified as Python's str does: templates were written against it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace sluice::tokenizer::jinja {

struct Character {
  char32_t code_point = 0;
  size_t num_bytes = 0;
};

// The first character of `text`; a byte that begins no valid character counts as one U+FFFD.
// REQUIRES: !text.empty()
Character FirstCharacter(absl::string_view text);

// The character at `index` as UTF-8, negative indices counting from the end; nullopt if there is
// none.
std::optional<absl::string_view> CharacterAt(absl::string_view text, int64_t index);

// str.isspace().
bool IsSpace(char32_t code_point);

// May begin a name: letters and '_'.
bool IsNameStart(char32_t code_point);

// May occur in a name: also marks and digits.
bool IsNameCharacter(char32_t code_point);

// str.isprintable(): whether repr() shows the character itself rather than an escape.
bool IsPrintable(char32_t code_point);

// How many bytes of white space `text` begins with.
size_t LeadingSpace(absl::string_view text);

// `text` without the white space at its end: str.rstrip().
absl::string_view StripTrailingSpace(absl::string_view text);

}  // namespace sluice::tokenizer::jinja
