#include "tokenizer/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/check.h"

namespace sluice::tokenizer::jinja {
namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr size_t kMaxBytesPerCharacter = 4;

// The length of the valid character that `text` begins with, 0 if there is none.
size_t DecodeFirst(absl::string_view text, char32_t& code_point) {
  utf8proc_int32_t value = 0;
  const utf8proc_ssize_t length =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &value);
  if (length <= 0) return 0;
  code_point = static_cast<char32_t>(value);
  return static_cast<size_t>(length);
}

Character LastCharacter(absl::string_view text) {
  char32_t code_point = 0;
  for (size_t n = 1; n <= std::min(text.size(), kMaxBytesPerCharacter); ++n) {
    if (DecodeFirst(text.substr(text.size() - n), code_point) == n) return {code_point, n};
  }
  return {kReplacement, 1};
}

}  // namespace

Character FirstCharacter(absl::string_view text) {
  DCHECK(!text.empty());
  char32_t code_point = 0;
  const size_t num_bytes = DecodeFirst(text, code_point);
  return num_bytes > 0 ? Character{code_point, num_bytes} : Character{kReplacement, 1};
}

bool IsValidUtf8(absl::string_view text) {
  char32_t code_point = 0;
  while (!text.empty()) {
    const size_t num_bytes = DecodeFirst(text, code_point);
    if (num_bytes == 0) return false;
    text.remove_prefix(num_bytes);
  }
  return true;
}

size_t CountCharacters(absl::string_view text) {
  size_t count = 0;
  for (; !text.empty(); ++count) text.remove_prefix(FirstCharacter(text).num_bytes);
  return count;
}

std::optional<absl::string_view> CharacterAt(absl::string_view text, int64_t index) {
  const auto size = static_cast<int64_t>(CountCharacters(text));
  if (index < 0) index += size;
  if (index < 0 || index >= size) return std::nullopt;
  for (; index > 0; --index) text.remove_prefix(FirstCharacter(text).num_bytes);
  return text.substr(0, FirstCharacter(text).num_bytes);
}

void AppendUtf8(char32_t code_point, std::string& text) {
  utf8proc_uint8_t bytes[kMaxBytesPerCharacter];
  const utf8proc_ssize_t length =
      utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  CHECK(length > 0);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsNameCharacter(char32_t code_point) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

bool IsPrintable(char32_t code_point) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return code_point == ' ';
    default:
      return true;
  }
}

size_t LeadingSpace(absl::string_view text) {
  size_t size = 0;
  while (size < text.size()) {
    const Character character = FirstCharacter(text.substr(size));
    if (!IsSpace(character.code_point)) break;
    size += character.num_bytes;
  }
  return size;
}

absl::string_view StripTrailingSpace(absl::string_view text) {
  while (!text.empty()) {
    const Character character = LastCharacter(text);
    if (!IsSpace(character.code_point)) break;
    text.remove_suffix(character.num_bytes);
  }
  return text;
}

}  // namespace sluice::tokenizer::jinja
