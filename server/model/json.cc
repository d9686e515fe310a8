#include "model/json.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace sluice::model {
namespace {

// nlohmann's error id for a number that no double can hold.
constexpr int kNumberOutOfRange = 406;

// Receives the parser's events, builds the value and stops at the first thing that is wrong. The
// parser itself does not recurse.
class Builder : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(int64_t value) override { return Add(value); }
  bool number_unsigned(uint64_t value) override { return Add(value); }
  bool number_float(double value, const std::string&) override { return Add(value); }
  bool string(std::string& value) override { return Add(std::move(value)); }
  bool binary(Json::binary_t&) override { return Fail("holds binary data"); }

  bool start_object(size_t) override { return Open(Json::object()); }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_array() override { return Close(); }

  bool key(std::string& name) override {
    if (open_.back()->contains(name)) {
      return Fail(absl::StrCat("has the name ", Describe(name), " twice"));
    }
    name_ = name;
    member_ = &(*open_.back())[name];
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    std::string message =
        error.id == kNumberOutOfRange ? "has a number that is too large" : "is not valid JSON";
    absl::StrAppend(&message, " at byte ", position);
    if (name_) absl::StrAppend(&message, ", after the name ", Describe(*name_));
    return Fail(std::move(message));
  }

  const std::string& error() const { return error_; }
  Json Take() { return std::move(root_); }

 private:
  // Puts `value` where the next one belongs and returns its place, which holds until the container
  // around it gets another.
  Json* Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *member_ = std::move(value);
    return member_;
  }

  bool Add(Json value) {
    if (open_.empty()) return Fail("is not a JSON object");
    Place(std::move(value));
    return true;
  }

  bool Open(Json container) {
    if (open_.empty() && !container.is_object()) return Fail("is not a JSON object");
    if (open_.size() == kMaxJsonDepth) {
      return Fail(absl::StrCat("is nested more than ", kMaxJsonDepth, " deep"));
    }
    open_.push_back(Place(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  bool Fail(std::string error) {
    error_ = std::move(error);
    return false;
  }

  Json root_;
  std::vector<Json*> open_;
  // Where the value of the name just read belongs, and that name.
  Json* member_ = nullptr;
  std::optional<std::string> name_;
  std::string error_;
};

}  // namespace

absl::StatusOr<Json> ParseJsonObject(absl::string_view file, absl::string_view text) {
  Builder builder;
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", builder.error()));
  }
  return builder.Take();
}

std::string Describe(const Json& value) {
  constexpr size_t kMaxBytes = 80;
  if (value.is_array()) return absl::StrCat("a list of ", value.size());
  if (value.is_object()) return "an object";
  if (!value.is_string()) return value.dump();
  const auto& text = value.get_ref<const std::string&>();
  const auto quote = [](const std::string& s) {
    return Json(s).dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  };
  return text.size() <= kMaxBytes ? quote(text) : quote(text.substr(0, kMaxBytes)) + "...";
}

JsonObject::JsonObject(std::string file, const Json& object, std::string path)
    : file_(std::move(file)), object_(&object), path_(std::move(path)) {
  DCHECK(object.is_object());
}

const Json* JsonObject::Find(absl::string_view name) const {
  const auto it = object_->find(std::string(name));
  return it == object_->end() ? nullptr : &*it;
}

bool JsonObject::Has(absl::string_view name) const {
  const Json* value = Find(name);
  return value != nullptr && !value->is_null();
}

absl::StatusOr<int> JsonObject::ToInt(const Json& value, absl::string_view name,
                                      const IntRange& range) const {
  // A value above int64_t's range is unsigned; get<int64_t> would make it negative.
  const bool in_range =
      value.is_number_integer() &&
      (!value.is_number_unsigned() ||
       value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int>::max())) &&
      value.get<int64_t>() >= range.min && value.get<int64_t>() <= range.max;
  if (in_range) return value.get<int>();
  const std::string wanted = absl::StrCat("must be an integer from ", range.min, " to ", range.max);
  return absl::InvalidArgumentError(
      absl::StrCat(file_, ": ", path_, name, " is ", Describe(value), ", ", wanted));
}

absl::StatusOr<int> JsonObject::GetInt(absl::string_view name, const IntRange& range) const {
  const Json* value = Find(name);
  if (value != nullptr) return ToInt(*value, name, range);
  if (!range.fallback) return Invalid(name, "an integer");
  return *range.fallback;
}

absl::StatusOr<double> JsonObject::GetReal(absl::string_view name, const RealRange& range) const {
  const Json* value = Find(name);
  if (value == nullptr && range.fallback) return *range.fallback;
  if (value != nullptr && value->is_number()) {
    const double number = value->get<double>();
    const bool above = range.above_min ? number > range.min : number >= range.min;
    if (above && number <= range.max) return number;
  }
  const char* from = range.above_min ? "above " : "from ";
  const char* to = range.above_min ? " and up to " : " to ";
  return Invalid(name, absl::StrCat("a number ", from, range.min, to, range.max));
}

absl::StatusOr<bool> JsonObject::GetBool(absl::string_view name, bool fallback) const {
  const Json* value = Find(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return Invalid(name, "true or false");
  return value->get<bool>();
}

absl::StatusOr<std::optional<int>> JsonObject::GetOptionalInt(absl::string_view name,
                                                              const IntRange& range) const {
  if (!Has(name)) return std::nullopt;
  return GetInt(name, range);
}

absl::StatusOr<std::optional<double>> JsonObject::GetOptionalReal(absl::string_view name,
                                                                  const RealRange& range) const {
  if (!Has(name)) return std::nullopt;
  return GetReal(name, range);
}

absl::StatusOr<std::optional<std::string>> JsonObject::GetOptionalString(
    absl::string_view name) const {
  if (!Has(name)) return std::nullopt;
  const Json* value = Find(name);
  if (!value->is_string()) return Invalid(name, "a string");
  return value->get<std::string>();
}

absl::StatusOr<std::optional<JsonObject>> JsonObject::GetOptionalObject(
    absl::string_view name) const {
  if (!Has(name)) return std::nullopt;
  const Json* value = Find(name);
  if (!value->is_object()) return Invalid(name, "an object");
  return JsonObject(file_, *value, absl::StrCat(path_, name, "."));
}

absl::StatusOr<std::vector<int>> JsonObject::GetInts(absl::string_view name,
                                                     const IntRange& range) const {
  std::vector<int> numbers;
  if (!Has(name)) return numbers;
  const Json* value = Find(name);
  if (!value->is_array()) return Invalid(name, "a list of integers");
  for (const Json& element : *value) {
    ASSIGN_OR_RETURN(const int number, ToInt(element, absl::StrCat("an entry of ", name), range));
    numbers.push_back(number);
  }
  return numbers;
}

absl::StatusOr<std::optional<std::vector<std::string>>> JsonObject::GetOptionalStrings(
    absl::string_view name) const {
  if (!Has(name)) return std::nullopt;
  const Json* value = Find(name);
  if (!value->is_array()) return Invalid(name, "a list of strings");
  std::vector<std::string> strings;
  for (const Json& element : *value) {
    if (!element.is_string()) return Invalid(name, "a list of strings only");
    strings.push_back(element.get<std::string>());
  }
  return strings;
}

absl::Status JsonObject::Invalid(absl::string_view name, absl::string_view wanted) const {
  const Json* value = Find(name);
  const std::string field = absl::StrCat(file_, ": ", path_, name);
  if (value == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(field, " is missing, must be ", wanted));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", Describe(*value), ", must be ", wanted));
}

absl::Status JsonObject::Unsupported(absl::string_view name) const {
  const Json* value = Find(name);
  return absl::UnimplementedError(absl::StrCat(file_, ": ", path_, name, " is ",
                                               value == nullptr ? "missing" : Describe(*value),
                                               ", which is not supported"));
}

}  // namespace sluice::model
