#include "tokenizer/post_processor.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tokenizer/component.h"

namespace sluice::tokenizer {
namespace {

absl::StatusOr<std::vector<TokenId>> ReadSpecialIds(const JsonField& token, TokenId end_id) {
  ASSIGN_OR_RETURN(const JsonField ids_field, token.At("ids"));
  ASSIGN_OR_RETURN(const std::vector<JsonField> elements, ids_field.Elements());
  std::vector<TokenId> ids;
  for (const JsonField& element : elements) {
    ASSIGN_OR_RETURN(const int64_t id, element.Index(end_id - 1));
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

}  // namespace

absl::StatusOr<PostProcessor> PostProcessor::FromJson(const JsonField& field, TokenId end_id) {
  ASSIGN_OR_RETURN(const std::vector<Component> components, FlattenSequence(field, "processors"));
  PostProcessor processor;
  for (const Component& component : components) {
    if (component.type == "ByteLevel") continue;
    if (component.type != "TemplateProcessing") {
      return component.field.Unimplemented(
          absl::StrCat("the post-processor ", component.type, " is not supported"));
    }
    if (processor.has_template_) {
      return component.field.Unimplemented("a second TemplateProcessing is not supported");
    }
    processor.has_template_ = true;
    ASSIGN_OR_RETURN(processor.template_, ReadTemplate(component.field, end_id));
  }
  return processor;
}

absl::StatusOr<std::vector<PostProcessor::Part>> PostProcessor::ReadTemplate(const JsonField& field,
                                                                             TokenId end_id) {
  ASSIGN_OR_RETURN(const JsonField single, field.At("single"));
  ASSIGN_OR_RETURN(const std::vector<JsonField> elements, single.Elements());
  const std::optional<JsonField> special_tokens = field.Find("special_tokens");
  std::vector<Part> parts;
  for (const JsonField& element : elements) {
    Part part;
    if (const auto sequence = element.Find("Sequence"); sequence.has_value()) {
      ASSIGN_OR_RETURN(const std::string id, sequence->StringOr("id", ""));
      if (id != "A") return sequence->Invalid("a template for a single text has the sequence A");
      part.is_text = true;
    } else {
      ASSIGN_OR_RETURN(const JsonField special, element.At("SpecialToken"));
      ASSIGN_OR_RETURN(const JsonField name_field, special.At("id"));
      ASSIGN_OR_RETURN(const std::string name, name_field.String());
      const auto token = special_tokens.has_value() ? special_tokens->Find(name) : std::nullopt;
      if (!token.has_value()) {
        return name_field.Invalid(absl::StrCat("special_tokens has no '", name, "'"));
      }
      ASSIGN_OR_RETURN(part.special_ids, ReadSpecialIds(*token, end_id));
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

bool PostProcessor::keeps_text() const {
  return !has_template_ || std::any_of(template_.begin(), template_.end(),
                                       [](const Part& part) { return part.is_text; });
}

std::vector<TokenId> PostProcessor::Apply(std::vector<TokenId> ids, bool add_special_tokens) const {
  if (!has_template_) return ids;
  std::vector<TokenId> result;
  for (const Part& part : template_) {
    if (part.is_text) {
      result.insert(result.end(), ids.begin(), ids.end());
    } else if (add_special_tokens) {
      result.insert(result.end(), part.special_ids.begin(), part.special_ids.end());
    }
  }
  return result;
}

}  // namespace sluice::tokenizer
