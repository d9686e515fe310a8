// A value of a JSON file together with where it stands, so that every complaint names file and
// field.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::tokenizer {

// Borrows the value. Nothing here throws; what has the wrong type is INVALID_ARGUMENT.
class JsonField {
 public:
  // The whole file `file`.
  JsonField(const nlohmann::json& value, std::string file);

  const nlohmann::json& value() const { return *value_; }

  // The member `key` of this object.
  absl::StatusOr<JsonField> At(absl::string_view key) const;
  // The same; nullopt if there is none or it is null, or this is no object.
  std::optional<JsonField> Find(absl::string_view key) const;
  // The elements of this array.
  absl::StatusOr<std::vector<JsonField>> Elements() const;

  absl::StatusOr<bool> Bool() const;
  absl::StatusOr<std::string> String() const;
  // A string of one character.
  absl::StatusOr<char32_t> Character() const;
  // An integer from 0 to `highest`.
  absl::StatusOr<int64_t> Index(int64_t highest) const;

  // The member `key` of this object, or `otherwise` if there is none or it is null.
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool otherwise) const;
  absl::StatusOr<std::string> StringOr(absl::string_view key, absl::string_view otherwise) const;

  // Errors about this field: "file: field: message".
  absl::Status Invalid(absl::string_view message) const;
  absl::Status Unimplemented(absl::string_view message) const;

 private:
  JsonField(const nlohmann::json& value, std::string file, std::string path);
  std::string Where(absl::string_view message) const;

  const nlohmann::json* value_;
  std::string file_;
  std::string path_;  // such as "model.merges[3]"; empty for the whole file
};

}  // namespace sluice::tokenizer
