#include "tokenizer/json_field.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {

JsonField::JsonField(const nlohmann::json& value, std::string file)
    : JsonField(value, std::move(file), "") {}

JsonField::JsonField(const nlohmann::json& value, std::string file, std::string path)
    : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

std::optional<JsonField> JsonField::Find(absl::string_view key) const {
  if (!value_->is_object()) return std::nullopt;
  const auto member = value_->find(std::string(key));
  if (member == value_->end() || member->is_null()) return std::nullopt;
  return JsonField(*member, file_,
                   path_.empty() ? std::string(key) : absl::StrCat(path_, ".", key));
}

absl::StatusOr<JsonField> JsonField::At(absl::string_view key) const {
  if (!value_->is_object()) return Invalid("must be an object");
  std::optional<JsonField> member = Find(key);
  if (!member.has_value()) return Invalid(absl::StrCat("has no '", key, "'"));
  return *std::move(member);
}

absl::StatusOr<std::vector<JsonField>> JsonField::Elements() const {
  if (!value_->is_array()) return Invalid("must be an array");
  std::vector<JsonField> elements;
  elements.reserve(value_->size());
  for (const nlohmann::json& element : *value_) {
    elements.push_back(JsonField(element, file_, absl::StrCat(path_, "[", elements.size(), "]")));
  }
  return elements;
}

absl::StatusOr<bool> JsonField::Bool() const {
  if (!value_->is_boolean()) return Invalid("must be true or false");
  return value_->get<bool>();
}

absl::StatusOr<std::string> JsonField::String() const {
  if (!value_->is_string()) return Invalid("must be a string");
  return value_->get<std::string>();
}

absl::StatusOr<char32_t> JsonField::Character() const {
  ASSIGN_OR_RETURN(const std::string text, String());
  if (text.empty() || Utf8Length(text[0]) != text.size()) return Invalid("must be one character");
  return CodePointAt(text, 0);
}

absl::StatusOr<int64_t> JsonField::Index(int64_t highest) const {
  // Beyond the range of int64_t, nlohmann's numbers are unsigned or floating.
  if (!value_->is_number_integer() ||
      (value_->is_number_unsigned() && value_->get<uint64_t>() > static_cast<uint64_t>(highest)) ||
      value_->get<int64_t>() < 0 || value_->get<int64_t>() > highest) {
    return Invalid(absl::StrCat("must be an integer from 0 to ", highest));
  }
  return value_->get<int64_t>();
}

absl::StatusOr<bool> JsonField::BoolOr(absl::string_view key, bool otherwise) const {
  const std::optional<JsonField> member = Find(key);
  return member.has_value() ? member->Bool() : otherwise;
}

absl::StatusOr<std::string> JsonField::StringOr(absl::string_view key,
                                                absl::string_view otherwise) const {
  const std::optional<JsonField> member = Find(key);
  return member.has_value() ? member->String() : std::string(otherwise);
}

absl::Status JsonField::Invalid(absl::string_view message) const {
  return absl::InvalidArgumentError(Where(message));
}

absl::Status JsonField::Unimplemented(absl::string_view message) const {
  return absl::UnimplementedError(Where(message));
}

std::string JsonField::Where(absl::string_view message) const {
  return path_.empty() ? absl::StrCat(file_, ": ", message)
                       : absl::StrCat(file_, ": ", path_, ": ", message);
}

}  // namespace sluice::tokenizer
