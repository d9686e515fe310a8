#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace sluice::tokenizer {

absl::StatusOr<Vocabulary> Vocabulary::FromJson(const JsonField& field) {
  if (!field.value().is_object()) return field.Invalid("must be an object");
  const nlohmann::json& tokens = field.value();
  const int64_t highest = HighestTokenId(static_cast<int64_t>(tokens.size()));
  Vocabulary vocabulary;
  // Not through JsonField: there may be hundreds of thousands.
  for (auto token = tokens.begin(); token != tokens.end(); ++token) {
    const nlohmann::json& id = token.value();
    if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(highest)) {
      return field.Invalid(
          absl::StrCat("the id of '", token.key(), "' must be an integer from 0 to ", highest));
    }
    const auto index = static_cast<size_t>(id.get<uint64_t>());
    if (index >= vocabulary.texts_.size()) vocabulary.texts_.resize(index + 1);
    if (vocabulary.texts_[index].has_value()) {
      return field.Invalid(absl::StrCat("'", *vocabulary.texts_[index], "' and '", token.key(),
                                        "' have the same id ", index));
    }
    vocabulary.texts_[index] = token.key();
  }
  vocabulary.ids_.reserve(tokens.size());
  for (size_t id = 0; id < vocabulary.texts_.size(); ++id) {
    if (vocabulary.texts_[id].has_value()) {
      vocabulary.ids_[*vocabulary.texts_[id]] = static_cast<TokenId>(id);
    }
  }
  return vocabulary;
}

std::optional<TokenId> Vocabulary::Find(absl::string_view text) const {
  const auto found = ids_.find(text);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* Vocabulary::Text(TokenId id) const {
  if (id < 0 || id >= end_id() || !texts_[id].has_value()) return nullptr;
  return &*texts_[id];
}

}  // namespace sluice::tokenizer
