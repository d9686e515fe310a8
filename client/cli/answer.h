// StreamAnswer: sends one request and prints its answer while it comes; what `generate` and `chat`
// have in common.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "cli/command.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::cli {

struct AnswerFormat {
  // One JSON object per event instead of text.
  bool json = false;
  // No summary on standard error.
  bool quiet = false;
};

struct Answer {
  // CANCELLED if the user interrupted it.
  absl::Status status;
  // What came of the first choice until then.
  std::string text;
};

// Ctrl-C cancels the call while this runs. The text of each choice is followed by a line break; see
// ChoicePrinter.
Answer StreamAnswer(const Environment& environment, const v1::GenerateRequest& request,
                    const AnswerFormat& format);

}  // namespace sluice::cli
