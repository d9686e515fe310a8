#include "tokenizer/jinja/diagnostics.h"

#include "absl/strings/str_cat.h"

namespace sluice::tokenizer::jinja {

absl::Status InvalidAt(Position position, absl::string_view message) {
  return At(position, absl::InvalidArgumentError(message));
}

absl::Status UnsupportedAt(Position position, absl::string_view construct) {
  return At(position, absl::UnimplementedError(absl::StrCat(construct, " is not supported")));
}

absl::Status At(Position position, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("line ", position.line, ", column ",
                                                  position.column, ": ", status.message()));
}

}  // namespace sluice::tokenizer::jinja
