#include "tokenizer/utf8.h"

namespace sluice::tokenizer {

size_t ValidCharacterLength(absl::string_view text) {
  if (text.empty()) return 0;
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t length = Utf8Length(text[0]);
  if (text.size() < length) return 0;
  const auto second = static_cast<unsigned char>(text[1]);
  const unsigned char lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (second < lowest || second > highest) return 0;
  for (size_t k = 2; k < length; ++k) {
    if ((static_cast<unsigned char>(text[k]) & 0xC0) != 0x80) return 0;
  }
  return length;
}

bool IsValidUtf8(absl::string_view text) {
  while (!text.empty()) {
    const size_t length = ValidCharacterLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

char32_t CodePointAt(absl::string_view text, size_t position) {
  const auto byte = [&](size_t k) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[position + k]));
  };
  switch (Utf8Length(text[position])) {
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3:
      return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default:
      return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 |
             (byte(3) & 0x3F);
  }
}

char32_t CodePointBefore(absl::string_view text, size_t end) {
  size_t begin = end - 1;
  while ((static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return CodePointAt(text, begin);
}

void AppendUtf8(char32_t code_point, std::string& text) {
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
    return;
  }
  if (code_point < 0x800) {
    text += static_cast<char>(0xC0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      text += static_cast<char>(0xE0 | code_point >> 12);
    } else {
      text += static_cast<char>(0xF0 | code_point >> 18);
      text += static_cast<char>(0x80 | (code_point >> 12 & 0x3F));
    }
    text += static_cast<char>(0x80 | (code_point >> 6 & 0x3F));
  }
  text += static_cast<char>(0x80 | (code_point & 0x3F));
}

std::string Utf8Decoder::Append(absl::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (missing_ > 0) {
      if (byte >= lowest_ && byte <= highest_) {
        lowest_ = 0x80;
        highest_ = 0xBF;
        pending_ += c;
        if (--missing_ == 0) {
          text += pending_;
          pending_.clear();
        }
        continue;
      }
      text += Flush();
    }
    if (byte < 0x80) {
      text += c;
    } else if (byte < 0xC2 || byte > 0xF4) {
      text.append(kReplacementCharacter.data(), kReplacementCharacter.size());
    } else {
      pending_ = c;
      missing_ = static_cast<int>(Utf8Length(c)) - 1;
      if (byte == 0xE0) lowest_ = 0xA0;
      if (byte == 0xED) highest_ = 0x9F;
      if (byte == 0xF0) lowest_ = 0x90;
      if (byte == 0xF4) highest_ = 0x8F;
    }
  }
  return text;
}

std::string Utf8Decoder::Flush() {
  if (missing_ == 0) return "";
  pending_.clear();
  missing_ = 0;
  lowest_ = 0x80;
  highest_ = 0xBF;
  return std::string(kReplacementCharacter);
}

}  // namespace sluice::tokenizer
