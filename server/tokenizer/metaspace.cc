#include "tokenizer/metaspace.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace sluice::tokenizer {

absl::StatusOr<Metaspace> Metaspace::FromJson(const JsonField& field) {
  Metaspace metaspace;
  if (const auto replacement = field.Find("replacement"); replacement.has_value()) {
    ASSIGN_OR_RETURN(metaspace.replacement, replacement->Character());
  }
  ASSIGN_OR_RETURN(metaspace.split, field.BoolOr("split", true));
  ASSIGN_OR_RETURN(const bool add_prefix_space, field.BoolOr("add_prefix_space", true));
  const std::optional<JsonField> scheme = field.Find("prepend_scheme");
  if (!scheme.has_value()) {
    metaspace.prepend = add_prefix_space ? Prepend::kAlways : Prepend::kNever;
    return metaspace;
  }
  ASSIGN_OR_RETURN(const std::string name, scheme->String());
  if (name == "always") {
    metaspace.prepend = Prepend::kAlways;
  } else if (name == "first") {
    metaspace.prepend = Prepend::kFirst;
  } else if (name == "never") {
    metaspace.prepend = Prepend::kNever;
  } else {
    return scheme->Invalid(absl::StrCat("'", name, "' is not always, first or never"));
  }
  if (!add_prefix_space && metaspace.prepend != Prepend::kNever) {
    return scheme->Invalid("contradicts add_prefix_space, which is false");
  }
  return metaspace;
}

}  // namespace sluice::tokenizer
