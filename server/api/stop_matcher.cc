#include "api/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace sluice::api {

StopMatcher::StopMatcher(std::vector<std::string> stop_strings, bool include_stop)
    : include_stop_(include_stop) {
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
  if (pattern.matched == pattern.text.size()) pattern.matched = pattern.borders[pattern.matched];
  while (pattern.matched > 0 && pattern.text[pattern.matched] != byte) {
    pattern.matched = pattern.borders[pattern.matched];
  }
  if (pattern.text[pattern.matched] == byte) ++pattern.matched;
}

std::optional<size_t> StopMatcher::FindComplete() const {
  std::optional<size_t> longest;
  for (size_t i = 0; i < patterns_.size(); ++i) {
    const Pattern& pattern = patterns_[i];
    if (pattern.matched < pattern.text.size()) continue;
    if (!longest || pattern.text.size() > patterns_[*longest].text.size()) longest = i;
  }
  return longest;
}

StopMatcher::Result StopMatcher::Append(absl::string_view piece, bool may_end) {
  if (patterns_.empty()) return {std::string(piece), std::nullopt};
  for (const char byte : piece) {
    held_.push_back(byte);
    for (Pattern& pattern : patterns_) Advance(pattern, byte);
    const std::optional<size_t> match = may_end ? FindComplete() : std::nullopt;
    if (match) {
      if (!include_stop_) held_.resize(held_.size() - patterns_[*match].text.size());
      return {std::exchange(held_, {}), match};
    }
  }
  if (include_stop_) return {std::exchange(held_, {}), std::nullopt};
  size_t kept = 0;
  for (const Pattern& pattern : patterns_) {
    const bool complete = pattern.matched == pattern.text.size();
    kept = std::max(kept, complete ? pattern.borders[pattern.matched] : pattern.matched);
  }
  Result result{held_.substr(0, held_.size() - kept), std::nullopt};
  held_.erase(0, held_.size() - kept);
  return result;
}

std::string StopMatcher::Flush() { return std::exchange(held_, {}); }

}  // namespace sluice::api
