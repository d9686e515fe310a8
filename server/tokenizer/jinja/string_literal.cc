#include "tokenizer/jinja/string_literal.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "tokenizer/jinja/unicode.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer::jinja {
namespace {

// Jinja decodes escapes after it has turned every character beyond ASCII into an escape of its own.
// It shows only where such a character follows a backslash that escapes nothing: the backslash then
// makes the digits of that escape plain text.
std::string AsciiWithEscapes(absl::string_view text) {
  std::string ascii;
  ascii.reserve(text.size());
  while (!text.empty()) {
    const Character character = FirstCharacter(text);
    const auto value = static_cast<uint32_t>(character.code_point);
    if (value < 0x80) {
      ascii += static_cast<char>(value);
    } else if (value <= 0xFF) {
      absl::StrAppendFormat(&ascii, "\\x%02x", value);
    } else if (value <= 0xFFFF) {
      absl::StrAppendFormat(&ascii, "\\u%04x", value);
    } else {
      absl::StrAppendFormat(&ascii, "\\U%08x", value);
    }
    text.remove_prefix(character.num_bytes);
  }
  return ascii;
}

// How many digits of base 8 or 16 `text` begins with, `max` at most.
size_t CountDigits(absl::string_view text, int base, size_t max) {
  const auto is_digit = [base](char c) {
    return base == 8 ? c >= '0' && c <= '7' : absl::ascii_isxdigit(static_cast<unsigned char>(c));
  };
  size_t count = 0;
  while (count < std::min(text.size(), max) && is_digit(text[count])) ++count;
  return count;
}

char32_t ParseDigits(absl::string_view digits, int base) {
  return static_cast<char32_t>(std::stoul(std::string(digits), nullptr, base));
}

absl::Status AppendCodePoint(char32_t code_point, std::string& text) {
  if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("an escape in a string names U+%04X, which is no character",
                        static_cast<uint32_t>(code_point)));
  }
  AppendUtf8(code_point, text);
  return absl::OkStatus();
}

// The character that a backslash and `c` stand for, 0 if there is none.
char SimpleEscape(char c) {
  constexpr absl::string_view kNames = "abfnrtv\\'\"";
  constexpr absl::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
  const size_t i = kNames.find(c);
  return i == absl::string_view::npos ? '\0' : kMeanings[i];
}

// Appends the meaning of the escape whose backslash precedes `rest`, which is not empty, and
// returns its length.
absl::StatusOr<size_t> AppendEscape(absl::string_view rest, std::string& text) {
  const char c = rest[0];
  if (const char simple = SimpleEscape(c); simple != '\0') {
    text += simple;
    return 1;
  }
  if (c == '\n') return 1;
  if (const size_t count = CountDigits(rest, 8, 3); count > 0) {
    RETURN_IF_ERROR(AppendCodePoint(ParseDigits(rest.substr(0, count), 8), text));
    return count;
  }
  if (c == 'x' || c == 'u' || c == 'U') {
    const size_t wanted = c == 'x' ? 2 : c == 'u' ? 4 : 8;
    if (CountDigits(rest.substr(1), 16, wanted) < wanted) {
      return absl::InvalidArgumentError(absl::StrCat("a string has \\", rest.substr(0, 1),
                                                     " without ", wanted, " hexadecimal digits"));
    }
    RETURN_IF_ERROR(AppendCodePoint(ParseDigits(rest.substr(1, wanted), 16), text));
    return wanted + 1;
  }
  if (c == 'N') return absl::UnimplementedError("the escape \\N in a string is not supported");
  text += '\\';
  text += c;
  return 1;
}

}  // namespace

absl::StatusOr<std::string> Unescape(absl::string_view literal) {
  if (literal.find('\\') == absl::string_view::npos) return std::string(literal);
  const std::string ascii = AsciiWithEscapes(literal);
  absl::string_view rest = ascii;
  std::string text;
  while (!rest.empty()) {
    if (rest[0] != '\\') {
      text += rest[0];
      rest.remove_prefix(1);
      continue;
    }
    rest.remove_prefix(1);
    if (rest.empty()) return absl::InvalidArgumentError("a string ends with a backslash");
    ASSIGN_OR_RETURN(const size_t length, AppendEscape(rest, text));
    rest.remove_prefix(length);
  }
  return text;
}

}  // namespace sluice::tokenizer::jinja
