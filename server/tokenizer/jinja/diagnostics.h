// Places in a template's source, and the statuses that name them.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace sluice::tokenizer::jinja {

// Both count from 1; columns count characters, not bytes.
struct Position {
  int line = 1;
  int column = 1;
};

// INVALID_ARGUMENT: "line L, column C: `message`".
absl::Status InvalidAt(Position position, absl::string_view message);

// UNIMPLEMENTED: "line L, column C: `construct` is not supported".
absl::Status UnsupportedAt(Position position, absl::string_view construct);

// `status`, which is not OK, with "line L, column C: " in front of its message.
absl::Status At(Position position, const absl::Status& status);

}  // namespace sluice::tokenizer::jinja
