// Reading JSON that came from outside: a strict parser, and typed access to an object's fields
// whose errors name file, field and value.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::model {

using Json = nlohmann::json;

// Containers within containers; hub files need four.
inline constexpr int kMaxJsonDepth = 32;

// Parses a text that must be one JSON object. INVALID_ARGUMENT that names `file` and the field last
// read if it is not JSON, has a number beyond a double's range, a name twice in one object, or is
// nested deeper than kMaxJsonDepth. Takes time and memory in proportion to the text.
absl::StatusOr<Json> ParseJsonObject(absl::string_view file, absl::string_view text);

// `value` for an error message: short and printable whatever it holds.
std::string Describe(const Json& value);

// What an integer field may be. Without a fallback the field must be there.
struct IntRange {
  std::optional<int> fallback;
  int min = 1;
  int max = std::numeric_limits<int>::max();
};

// What a number field may be; never NaN or infinite.
struct RealRange {
  std::optional<double> fallback;
  double min = 0;
  double max = 1e6;
  // `min` itself is not allowed.
  bool above_min = false;
};

// Typed access to one object's fields. Borrows the object. An absent field is its fallback, or in
// the GetOptional methods nullopt, as is null there. Errors are INVALID_ARGUMENT.
class JsonObject {
 public:
  // `path` precedes each field's name in errors: "" or "rope_scaling.".
  // REQUIRES: `object` is an object.
  JsonObject(std::string file, const Json& object, std::string path = "");

  const std::string& file() const { return file_; }
  bool empty() const { return object_->empty(); }
  // The field, null or not; nullptr if it is absent.
  const Json* Find(absl::string_view name) const;
  // Present and not null.
  bool Has(absl::string_view name) const;

  absl::StatusOr<int> GetInt(absl::string_view name, const IntRange& range) const;
  absl::StatusOr<double> GetReal(absl::string_view name, const RealRange& range) const;
  absl::StatusOr<bool> GetBool(absl::string_view name, bool fallback) const;
  absl::StatusOr<std::optional<int>> GetOptionalInt(absl::string_view name,
                                                    const IntRange& range) const;
  absl::StatusOr<std::optional<double>> GetOptionalReal(absl::string_view name,
                                                        const RealRange& range) const;
  absl::StatusOr<std::optional<std::string>> GetOptionalString(absl::string_view name) const;
  absl::StatusOr<std::optional<JsonObject>> GetOptionalObject(absl::string_view name) const;
  // Empty if absent or null.
  absl::StatusOr<std::vector<int>> GetInts(absl::string_view name, const IntRange& range) const;
  absl::StatusOr<std::optional<std::vector<std::string>>> GetOptionalStrings(
      absl::string_view name) const;

  // INVALID_ARGUMENT "<file>: <field> is <value>, must be <wanted>", or "is missing".
  absl::Status Invalid(absl::string_view name, absl::string_view wanted) const;
  // UNIMPLEMENTED "<file>: <field> is <value>, which is not supported".
  absl::Status Unsupported(absl::string_view name) const;

 private:
  absl::StatusOr<int> ToInt(const Json& value, absl::string_view name, const IntRange& range) const;

  std::string file_;
  const Json* object_;
  std::string path_;
};

}  // namespace sluice::model
