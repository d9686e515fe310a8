#include "tokenizer/jinja/json.h"

#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace sluice::tokenizer::jinja {
namespace {

using Json = nlohmann::ordered_json;

absl::StatusOr<Value> Convert(const Json& json, int depth) {
  if (depth > kMaxJsonDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat("the JSON is nested more than ", kMaxJsonDepth, " levels deep"));
  }
  switch (json.type()) {
    case Json::value_t::null:
      return Value::None();
    case Json::value_t::boolean:
      return Value::Bool(json.get<bool>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return absl::InvalidArgumentError("the JSON has an integer of more than 64 bits");
      }
      return Value::Int(json.get<int64_t>());
    case Json::value_t::number_integer:
      return Value::Int(json.get<int64_t>());
    case Json::value_t::number_float:
      return Value::Float(json.get<double>());
    case Json::value_t::string:
      return Value::String(json.get<std::string>());
    case Json::value_t::array: {
      Value::Elements elements;
      elements.reserve(json.size());
      for (const Json& element : json) {
        ASSIGN_OR_RETURN(Value value, Convert(element, depth + 1));
        elements.push_back(std::move(value));
      }
      return Value::List(std::move(elements));
    }
    case Json::value_t::object: {
      Value::Entries entries;
      entries.reserve(json.size());
      for (const auto& [key, element] : json.items()) {
        ASSIGN_OR_RETURN(Value value, Convert(element, depth + 1));
        entries.emplace_back(Value::String(key), std::move(value));
      }
      return Value::Dict(std::move(entries));
    }
    default:
      return absl::InvalidArgumentError("this is not JSON");
  }
}

}  // namespace

absl::StatusOr<Value> FromJson(const nlohmann::ordered_json& json) { return Convert(json, 0); }

}  // namespace sluice::tokenizer::jinja
