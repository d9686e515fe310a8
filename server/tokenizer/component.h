// The components of a tokenizer.json: objects with a "type", which Sequences put in a row.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tokenizer/json_field.h"

namespace sluice::tokenizer {

struct Component {
  std::string type;
  JsonField field;
};

// `field` as a list of components that are no Sequences: itself, or the members of its array
// `members` if it is a Sequence, and so on. Sequences may be nested 8 deep.
absl::StatusOr<std::vector<Component>> FlattenSequence(const JsonField& field,
                                                       absl::string_view members);

}  // namespace sluice::tokenizer
