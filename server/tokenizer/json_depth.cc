#include "tokenizer/json_depth.h"

#include <cstddef>

namespace sluice::tokenizer {

bool IsWithinJsonDepth(absl::string_view json) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    switch (json[i]) {
      case '"':
        in_string = !in_string;
        break;
      case '\\':
        // The next character is part of the string, whatever it is.
        if (in_string) ++i;
        break;
      case '[':
      case '{':
        if (!in_string && ++depth > kMaxJsonDepth) return false;
        break;
      case ']':
      case '}':
        if (!in_string) --depth;
        break;
      default:
        break;
    }
  }
  return true;
}

}  // namespace sluice::tokenizer
