#include "api/kserve_sampling.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "api/status_mapping.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "tokenizer/json_depth.h"

namespace sluice::api {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using nlohmann::json;

constexpr char kTensor[] = "sampling_parameters";
constexpr char kParameters[] = "parameters";

// Where the value of a key goes: a field of one of GenerateRequest's groups of options. Its type
// says what the value must be; a repeated field takes one value or a list.
struct Key {
  const char* key;
  const char* group;
  const char* field;
};
constexpr Key kKeys[] = {
    {"temperature", "sampling", "temperature"},
    {"top_k", "sampling", "top_k"},
    {"top_p", "sampling", "top_p"},
    {"min_p", "sampling", "min_p"},
    {"typical_p", "sampling", "typical_p"},
    {"repetition_penalty", "sampling", "repetition_penalty"},
    {"presence_penalty", "sampling", "presence_penalty"},
    {"frequency_penalty", "sampling", "frequency_penalty"},
    {"logit_bias", "sampling", "logit_bias"},
    {"seed", "sampling", "seed"},
    {"max_tokens", "stopping", "max_tokens"},
    {"min_tokens", "stopping", "min_tokens"},
    {"stop", "stopping", "stop_strings"},
    {"include_stop_str_in_output", "stopping", "include_stop"},
    {"stop_token_ids", "stopping", "stop_token_ids"},
    {"ignore_eos", "stopping", "ignore_eos"},
    {"skip_special_tokens", "response", "skip_special_tokens"},
};

// Each reads a value, or its text; absent if it is another.
std::optional<int64_t> ToInteger(const json& value) {
  int64_t integer = 0;
  if (value.is_string()) {
    return absl::SimpleAtoi(value.get_ref<const std::string&>(), &integer)
               ? std::optional<int64_t>(integer)
               : std::nullopt;
  }
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return std::nullopt;
  }
  return value.get<int64_t>();
}

std::optional<uint64_t> ToUnsigned(const json& value) {
  uint64_t integer = 0;
  if (value.is_string() && absl::SimpleAtoi(value.get_ref<const std::string&>(), &integer)) {
    return integer;
  }
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  return std::nullopt;
}

std::optional<float> ToFloat(const json& value) {
  float number = 0;
  if (value.is_string() && absl::SimpleAtof(value.get_ref<const std::string&>(), &number)) {
    return number;
  }
  if (!value.is_number()) return std::nullopt;
  const double wide = value.get<double>();
  // Beyond float's range lies no option's.
  if (std::abs(wide) > std::numeric_limits<float>::max()) {
    return wide > 0 ? std::numeric_limits<float>::infinity()
                    : -std::numeric_limits<float>::infinity();
  }
  return static_cast<float>(wide);
}

std::optional<bool> ToBool(const json& value) {
  bool truth = false;
  if (value.is_string() && absl::SimpleAtob(value.get_ref<const std::string&>(), &truth)) {
    return truth;
  }
  if (value.is_boolean()) return value.get<bool>();
  return std::nullopt;
}

std::optional<int32_t> ToInt32(const json& value) {
  const auto integer = ToInteger(value);
  if (!integer || *integer < std::numeric_limits<int32_t>::min() ||
      *integer > std::numeric_limits<int32_t>::max()) {
    return std::nullopt;
  }
  return static_cast<int32_t>(*integer);
}

absl::Status TypeError(absl::string_view name, absl::string_view type) {
  return FieldError(name, absl::StrCat("is not ", type));
}

// Sets a field, or adds an element to a repeated one.
absl::Status SetOne(const json& value, absl::string_view name, const FieldDescriptor& field,
                    Message& options) {
  const auto& reflection = *options.GetReflection();
  const bool repeated = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_FLOAT: {
      const auto number = ToFloat(value);
      if (!number) return TypeError(name, "a number");
      repeated ? reflection.AddFloat(&options, &field, *number)
               : reflection.SetFloat(&options, &field, *number);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT32: {
      const auto integer = ToInt32(value);
      if (!integer) return TypeError(name, "a 32-bit integer");
      repeated ? reflection.AddInt32(&options, &field, *integer)
               : reflection.SetInt32(&options, &field, *integer);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      const auto integer = ToUnsigned(value);
      if (!integer) return TypeError(name, "an integer of 64 bits that is not negative");
      repeated ? reflection.AddUInt64(&options, &field, *integer)
               : reflection.SetUInt64(&options, &field, *integer);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      const auto truth = ToBool(value);
      if (!truth) return TypeError(name, "true or false");
      repeated ? reflection.AddBool(&options, &field, *truth)
               : reflection.SetBool(&options, &field, *truth);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      if (!value.is_string()) return TypeError(name, "a text");
      repeated ? reflection.AddString(&options, &field, value.get<std::string>())
               : reflection.SetString(&options, &field, value.get<std::string>());
      return absl::OkStatus();
    }
    default:
      break;
  }
  CHECK(false);  // No key leads to a field of another type.
  return absl::OkStatus();
}

// An object whose keys are token ids, such as {"17": -1.5}.
absl::Status SetMap(const json& value, absl::string_view name, const FieldDescriptor& field,
                    Message& options) {
  if (!value.is_object()) return TypeError(name, "an object");
  for (const auto& [key, element] : value.items()) {
    Message& entry = *options.GetReflection()->AddMessage(&options, &field);
    const std::string element_name = absl::StrCat(name, "[", key, "]");
    const auto& type = *entry.GetDescriptor();
    RETURN_IF_ERROR(SetOne(json(key), element_name, *type.FindFieldByNumber(1), entry));
    RETURN_IF_ERROR(SetOne(element, element_name, *type.FindFieldByNumber(2), entry));
  }
  return absl::OkStatus();
}

absl::Status SetOption(const Key& key, const json& value, absl::string_view name,
                       v1::GenerateRequest& request) {
  if (value.is_null()) return absl::OkStatus();
  const FieldDescriptor* group = request.GetDescriptor()->FindFieldByName(key.group);
  CHECK(group != nullptr);
  Message& options = *request.GetReflection()->MutableMessage(&request, group);
  const FieldDescriptor* field = options.GetDescriptor()->FindFieldByName(key.field);
  CHECK(field != nullptr);
  if (field->is_map()) return SetMap(value, name, *field, options);
  if (!field->is_repeated() || !value.is_array()) return SetOne(value, name, *field, options);
  size_t i = 0;
  for (const json& element : value) {
    RETURN_IF_ERROR(SetOne(element, absl::StrCat(name, "[", i++, "]"), *field, options));
  }
  return absl::OkStatus();
}

absl::Status ReadKey(const std::string& key, const json& value, absl::string_view parent,
                     v1::GenerateRequest& request) {
  const std::string name = absl::StrCat(parent, ".", key);
  // One answer is all that a response has room for.
  if (key == "n") {
    if (value.is_null() || ToInteger(value) == 1) return absl::OkStatus();
    return FieldError(name, "is not 1: there is one answer to a request");
  }
  const auto* known =
      absl::c_find_if(kKeys, [&key](const Key& candidate) { return key == candidate.key; });
  if (known == std::end(kKeys)) return FieldError(name, "is not known");
  // Clients of vLLM write "all" so.
  if (key == "top_k" && ToInteger(value) == -1) return SetOption(*known, 0, name, request);
  return SetOption(*known, value, name, request);
}

json ToJson(const inference::InferParameter& parameter) {
  switch (parameter.parameter_choice_case()) {
    case inference::InferParameter::kBoolParam:
      return parameter.bool_param();
    case inference::InferParameter::kInt64Param:
      // As a parsed text would have it.
      if (parameter.int64_param() >= 0) return static_cast<uint64_t>(parameter.int64_param());
      return parameter.int64_param();
    case inference::InferParameter::kStringParam:
      return parameter.string_param();
    case inference::InferParameter::kDoubleParam:
      return parameter.double_param();
    case inference::InferParameter::kUint64Param:
      return parameter.uint64_param();
    case inference::InferParameter::PARAMETER_CHOICE_NOT_SET:
      break;
  }
  return nullptr;
}

}  // namespace

absl::Status ReadSamplingTensor(absl::string_view text, v1::GenerateRequest& request) {
  if (text.size() > kMaxSamplingParametersBytes) {
    return FieldError(kTensor, absl::StrCat("has ", text.size(), " bytes; at most ",
                                            kMaxSamplingParametersBytes, " are allowed"));
  }
  if (!tokenizer::IsWithinJsonDepth(text)) {
    return FieldError(kTensor,
                      absl::StrCat("is nested more than ", tokenizer::kMaxJsonDepth, " deep"));
  }
  const json object = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return TypeError(kTensor, "a JSON object");
  for (const auto& [key, value] : object.items()) {
    RETURN_IF_ERROR(ReadKey(key, value, kTensor, request));
  }
  return absl::OkStatus();
}

std::string SamplingParameterOf(absl::string_view field, bool of_tensor) {
  const absl::string_view option = field.substr(0, field.find('['));
  for (const Key& key : kKeys) {
    if (option != absl::StrCat(key.group, ".", key.field) && option != key.field) continue;
    return absl::StrCat(of_tensor ? kTensor : kParameters, ".", key.key,
                        field.substr(option.size()));
  }
  return "";
}

absl::Status ReadSamplingParameters(
    const google::protobuf::Map<std::string, inference::InferParameter>& parameters,
    v1::GenerateRequest& request) {
  for (const auto& [key, value] : parameters) {
    if (absl::StartsWith(key, "triton_")) continue;
    RETURN_IF_ERROR(ReadKey(key, ToJson(value), kParameters, request));
  }
  return absl::OkStatus();
}

}  // namespace sluice::api
