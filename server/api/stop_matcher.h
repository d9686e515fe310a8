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
// result does not depend on how the text is cut into pieces (but for what may not end it yet).
// Pieces must be whole characters; the released ones then are, too.
class StopMatcher {
 public:
  // `stop_strings`: none is empty; all are UTF-8. With include_stop the match belongs to the
  // answer.
  explicit StopMatcher(std::vector<std::string> stop_strings, bool include_stop = false);

  struct Result {
    // Text that is certain to belong to the answer and was not released before.
    std::string text;
    // Index of the stop string that ended the answer.
    std::optional<size_t> match;
  };

  // Takes the next piece. Unless it may end the answer, what is complete within it is no match;
  // what begins within it may be one later. REQUIRES: no match so far.
  Result Append(absl::string_view piece, bool may_end = true);

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
  // The longest of the patterns that are complete here; nullopt if none is.
  std::optional<size_t> FindComplete() const;

  std::vector<Pattern> patterns_;
  const bool include_stop_;
  // Text that has not been released: the longest `matched` bytes of any pattern, or nothing if all
  // of it belongs to the answer whatever comes.
  std::string held_;
};

}  // namespace sluice::api
