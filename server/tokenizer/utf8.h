// UTF-8: validating, reading and writing code points, and decoding a stream of bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace sluice::tokenizer {

// U+FFFD, which stands for bytes that are not UTF-8.
inline constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// Bytes of the character that `text` begins with; 0 if it begins with none: it is empty, or begins
// with a cut character, an overlong form, a surrogate or a code point above U+10FFFF.
size_t ValidCharacterLength(absl::string_view text);

// Whether all of it is characters.
bool IsValidUtf8(absl::string_view text);

// Bytes of the character that begins with `lead`. REQUIRES: `lead` begins a valid character.
inline size_t Utf8Length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The code point that begins at text[position]. REQUIRES: `text` is valid, `position` is the first
// byte of a character.
char32_t CodePointAt(absl::string_view text, size_t position);

// The code point that ends right before text[end]. REQUIRES: as above, and end > 0.
char32_t CodePointBefore(absl::string_view text, size_t end);

// Appends `code_point` in UTF-8. REQUIRES: it is a Unicode scalar value.
void AppendUtf8(char32_t code_point, std::string& text);

// Turns bytes that come in pieces into valid UTF-8. Every longest beginning of a character that
// cannot go on becomes one U+FFFD (the practice of the Unicode Standard, section 3.9), as soon as
// that is certain. Not thread-safe.
class Utf8Decoder {
 public:
  // The text that became certain with `bytes`.
  std::string Append(absl::string_view bytes);
  // What is left of a cut character: one U+FFFD, or nothing.
  std::string Flush();

 private:
  std::string pending_;  // the first bytes of a character
  int missing_ = 0;      // bytes that it still lacks
  // Range of the byte that may come next.
  unsigned char lowest_ = 0x80;
  unsigned char highest_ = 0xBF;
};

}  // namespace sluice::tokenizer
