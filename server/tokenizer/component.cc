#include "tokenizer/component.h"

#include "base/status_macros.h"

namespace sluice::tokenizer {
namespace {

constexpr int kMaxDepth = 8;

absl::Status Flatten(const JsonField& field, absl::string_view members, int depth,
                     std::vector<Component>& components) {
  ASSIGN_OR_RETURN(const JsonField type_field, field.At("type"));
  const absl::StatusOr<std::string> type = type_field.String();
  if (!type.ok()) return type.status();
  if (*type != "Sequence") {
    components.push_back({*type, field});
    return absl::OkStatus();
  }
  if (depth == kMaxDepth) return field.Invalid("Sequences are nested too deep");
  ASSIGN_OR_RETURN(const JsonField member_field, field.At(members));
  ASSIGN_OR_RETURN(const std::vector<JsonField> elements, member_field.Elements());
  for (const JsonField& element : elements) {
    RETURN_IF_ERROR(Flatten(element, members, depth + 1, components));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Component>> FlattenSequence(const JsonField& field,
                                                       absl::string_view members) {
  std::vector<Component> components;
  RETURN_IF_ERROR(Flatten(field, members, 0, components));
  return components;
}

}  // namespace sluice::tokenizer
