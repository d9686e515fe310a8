// StopMatcher: finds the end of an answer in its text, and holds back what may be the beginning of
// a stop string, so that no part of one is ever sent.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace sluice::api {

// Not thread-safe; belongs to one answer.
//
// The match is the one that is complete first; of several that end together, the longest. So the
// result does not depend on how the text is cut into pieces. Pieces must be whole characters; the
// released ones then are, too.
class StopMatcher {
 public:
  // `stop_strings`: none is empty; all are UTF-8.
  explicit StopMatcher(std::vector<std::string> stop_strings);

  struct Result {
    // Text that is certain to belong to the answer and was not released before.
    std::string text;
    // Index of the stop string that ended the answer.
    std::optional<size_t> match;
  };

  // Takes the next piece. REQUIRES: no match so far.
  Result Append(absl::string_view piece);

  // The text held back, which nothing can complete any more. Call once, at the end, if there was no
  // match.
  std::string Flush();

 private:
  // States of the automaton of one stop string (Knuth, Morris and Pratt): how many of its bytes the
  // end of the text equals.
  struct Pattern {
    std::string text;
    // borders[n]: length of the longest proper prefix of text that ends text[0, n), for n >= 1.
    std::vector<size_t> borders;
    size_t matched = 0;
  };

  static void Advance(Pattern& pattern, char byte);

  std::vector<Pattern> patterns_;
  // Text that has not been released: the longest `matched` bytes of any pattern.
  std::string held_;
};

}  // namespace sluice::api
