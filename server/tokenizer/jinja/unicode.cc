#include "tokenizer/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/check.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer::jinja {
namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr size_t kMaxBytesPerCharacter = 4;

Character LastCharacter(absl::string_view text) {
  for (size_t n = 1; n <= std::min(text.size(), kMaxBytesPerCharacter); ++n) {
    const absl::string_view end = text.substr(text.size() - n);
    if (ValidCharacterLength(end) == n) return {CodePointAt(end, 0), n};
  }
  return {kReplacement, 1};
}

}  // namespace

Character FirstCharacter(absl::string_view text) {
  DCHECK(!text.empty());
  const size_t num_bytes = ValidCharacterLength(text);
  if (num_bytes == 0) return {kReplacement, 1};
  return {CodePointAt(text, 0), num_bytes};
}

std::optional<absl::string_view> CharacterAt(absl::string_view text, int64_t index) {
  for (; index > 0 && !text.empty(); --index) text.remove_prefix(FirstCharacter(text).num_bytes);
  for (; index < -1 && !text.empty(); ++index) text.remove_suffix(LastCharacter(text).num_bytes);
  if (text.empty()) return std::nullopt;
  if (index == 0) return text.substr(0, FirstCharacter(text).num_bytes);
  return text.substr(text.size() - LastCharacter(text).num_bytes);
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsNameStart(char32_t code_point) {
  if (code_point == '_') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
      return true;
    default:
      return false;
  }
}

bool IsNameCharacter(char32_t code_point) {
  if (IsNameStart(code_point)) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
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
