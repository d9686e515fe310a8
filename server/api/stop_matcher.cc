#include "api/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace sluice::api {

StopMatcher::StopMatcher(std::vector<std::string> stop_strings) {
  for (std::string& text : stop_strings) {
    Pattern pattern{std::move(text), {}, 0};
    pattern.borders.assign(pattern.text.size() + 1, 0);
    for (size_t n = 1, border = 0; n < pattern.text.size(); ++n) {
      while (border > 0 && pattern.text[n] != pattern.text[border]) {
        border = pattern.borders[border];
      }
      if (pattern.text[n] == pattern.text[border]) ++border;
      pattern.borders[n + 1] = border;
    }
    patterns_.push_back(std::move(pattern));
  }
}

void StopMatcher::Advance(Pattern& pattern, char byte) {
  while (pattern.matched > 0 && pattern.text[pattern.matched] != byte) {
    pattern.matched = pattern.borders[pattern.matched];
  }
  if (pattern.text[pattern.matched] == byte) ++pattern.matched;
}

StopMatcher::Result StopMatcher::Append(absl::string_view piece) {
  if (patterns_.empty()) return {std::string(piece), std::nullopt};
  for (const char byte : piece) {
    held_.push_back(byte);
    std::optional<size_t> match;
    for (size_t i = 0; i < patterns_.size(); ++i) {
      Pattern& pattern = patterns_[i];
      Advance(pattern, byte);
      const bool complete = pattern.matched == pattern.text.size();
      if (complete && (!match || pattern.text.size() > patterns_[*match].text.size())) match = i;
    }
    if (match) {
      held_.resize(held_.size() - patterns_[*match].text.size());
      return {std::exchange(held_, {}), match};
    }
  }
  size_t kept = 0;
  for (const Pattern& pattern : patterns_) kept = std::max(kept, pattern.matched);
  Result result{held_.substr(0, held_.size() - kept), std::nullopt};
  held_.erase(0, held_.size() - kept);
  return result;
}

std::string StopMatcher::Flush() { return std::exchange(held_, {}); }

}  // namespace sluice::api
