// ChoicePrinter: prints the choices of an answer one after the other, though they come at the same
// time.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <string>
#include <vector>

#include "sluice/v1/generation.pb.h"

namespace sluice::cli {

// The first choice that is not complete is shown as it is made, those behind it when their turn
// comes. Of several, each has a heading: "[choice 1]". For one thread.
class ChoicePrinter {
 public:
  // `out` outlives this.
  ChoicePrinter(int num_choices, std::ostream& out);

  void Add(const v1::GenerateResponse& event);

  // Shows what came of choices whose turn has not come, and ends the last line. If nothing came,
  // there is a line only if the answer is complete. REQUIRES: called once, last.
  void Finish(bool complete);

 private:
  struct Choice {
    std::string text;
    size_t num_shown = 0;
    bool has_heading = false;
    bool complete = false;
  };

  void Show(Choice& choice);

  std::vector<Choice> choices_;
  std::ostream& out_;
  // Whose turn it is.
  size_t current_ = 0;
  bool has_printed_ = false;
};

}  // namespace sluice::cli
