// Numbers as text, as metrics pages and JSON want them, without locale and without streams.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>

namespace sluice::metrics {

inline void AppendInteger(int64_t value, std::string& text) {
  char buffer[24];
  const std::to_chars_result end = std::to_chars(buffer, buffer + sizeof(buffer), value);
  text.append(buffer, end.ptr);
}

// 16 significant digits at most, as prometheus::TextSerializer writes them. REQUIRES: `value` is
// finite.
inline void AppendNumber(double value, std::string& text) {
  char buffer[32];
  const std::to_chars_result end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::general, 16);
  text.append(buffer, end.ptr);
}

}  // namespace sluice::metrics
