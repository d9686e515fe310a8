// Unicode properties, normal forms and case, as the components of a tokenizer.json need them.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace sluice::tokenizer {

// White_Space of the Unicode Character Database.
bool IsWhitespace(char32_t code_point);

// A character of a word: alphabetic, a mark, a decimal digit, connecting punctuation or a joiner
// (annex C of UTS 18).
bool IsWordCharacter(char32_t code_point);

// General category N: digits, letter numbers and other numbers.
bool IsNumeric(char32_t code_point);

// General category P, or one of the ASCII symbols.
bool IsPunctuation(char32_t code_point);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// `text` in a normal form (UAX 15), in O(n log n) whatever the text. REQUIRES: valid UTF-8.
std::string Normalize(absl::string_view text, NormalForm form);

// Each character's full lower-case mapping, regardless of what stands beside it. REQUIRES: valid
// UTF-8.
std::string ToLower(absl::string_view text);

}  // namespace sluice::tokenizer
