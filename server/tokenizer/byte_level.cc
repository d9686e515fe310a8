#include "tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

// The alphabet ends with U+0143.
constexpr char32_t kAlphabetEnd = 0x144;

struct Alphabet {
  std::array<std::string, 256> character_of_byte;
  std::array<int16_t, kAlphabetEnd> byte_of_character;  // -1: not in the alphabet
};

// Printable Latin-1 characters stand for themselves; the other bytes, in ascending order, take the
// code points from U+0100 on.
Alphabet MakeAlphabet() {
  Alphabet alphabet;
  alphabet.byte_of_character.fill(-1);
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const char32_t character = printable ? static_cast<char32_t>(byte) : next++;
    AppendUtf8(character, alphabet.character_of_byte[byte]);
    alphabet.byte_of_character[character] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

const Alphabet& GetAlphabet() {
  static const auto& alphabet = *new Alphabet(MakeAlphabet());
  return alphabet;
}

}  // namespace

void AppendByteAlphabet(absl::string_view text, std::string& result) {
  const Alphabet& alphabet = GetAlphabet();
  for (const char c : text) result += alphabet.character_of_byte[static_cast<unsigned char>(c)];
}

std::optional<std::string> FromByteAlphabet(absl::string_view token) {
  const Alphabet& alphabet = GetAlphabet();
  std::string bytes;
  bytes.reserve(token.size());
  for (size_t i = 0; i < token.size(); i += Utf8Length(token[i])) {
    const char32_t character = CodePointAt(token, i);
    if (character >= kAlphabetEnd || alphabet.byte_of_character[character] < 0) return std::nullopt;
    bytes += static_cast<char>(alphabet.byte_of_character[character]);
  }
  return bytes;
}

}  // namespace sluice::tokenizer
