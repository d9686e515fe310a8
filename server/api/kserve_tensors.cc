#include "api/kserve_tensors.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "api/status_mapping.h"
#include "base/status_macros.h"
#include "tokenizer/utf8.h"

namespace sluice::api {
namespace {

using Tensor = inference::ModelInferRequest::InferInputTensor;

constexpr size_t kLengthBytes = 4;

struct Known {
  const char* name;
  const char* datatype;
};
constexpr Known kInputs[] = {
    {kTextInput, kBytes}, {kStream, kBool}, {kSamplingParameters, kBytes}, {kExcludeInput, kBool}};

// Name, datatype and shape.
absl::Status CheckTensor(const Tensor& tensor, int index) {
  const auto* known = absl::c_find_if(
      kInputs, [&tensor](const Known& candidate) { return tensor.name() == candidate.name; });
  if (known == std::end(kInputs)) {
    return FieldError(absl::StrCat("inputs[", index, "]"),
                      absl::StrCat("\"", tensor.name(), "\" is not an input of the model"));
  }
  if (tensor.datatype() != known->datatype) {
    return FieldError(tensor.name(), absl::StrCat("has datatype \"", tensor.datatype(),
                                                  "\"; it must be ", known->datatype));
  }
  const auto& shape = tensor.shape();
  if (shape.empty() || shape.size() > 2 ||
      absl::c_any_of(shape, [](int64_t d) { return d != 1; })) {
    constexpr int kMaxPrinted = 8;
    const auto begin = shape.begin();
    return FieldError(
        tensor.name(),
        absl::StrCat("has shape [",
                     absl::StrJoin(begin, begin + std::min(shape.size(), kMaxPrinted), ", "),
                     shape.size() > kMaxPrinted ? ", ..." : "", "]; it must be [1] or [1, 1]"));
  }
  if (!tensor.parameters().empty()) {
    return FieldError(
        absl::StrCat(tensor.name(), ".parameters.", tensor.parameters().begin()->first),
        "is not known");
  }
  return absl::OkStatus();
}

// The one element of a BYTES tensor; of a BOOL tensor "\0" or "\1".
absl::StatusOr<std::string> ReadRaw(const Tensor& tensor, const std::string& raw) {
  if (tensor.datatype() == kBool) {
    if (raw.size() != 1) {
      return FieldError(tensor.name(),
                        absl::StrCat("has ", raw.size(), " bytes of raw data, not 1"));
    }
    if (raw[0] != 0 && raw[0] != 1) {
      return FieldError(tensor.name(), "has raw data that is neither 0 nor 1");
    }
    return raw;
  }
  if (raw.size() < kLengthBytes) {
    return FieldError(tensor.name(),
                      absl::StrCat("has ", raw.size(), " bytes of raw data, not the ", kLengthBytes,
                                   " of a length"));
  }
  uint32_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<uint8_t>(raw[i]);
  if (raw.size() - kLengthBytes != length) {
    return FieldError(tensor.name(), absl::StrCat("has an element of ", length, " bytes, but ",
                                                  raw.size() - kLengthBytes, " follow its length"));
  }
  return raw.substr(kLengthBytes);
}

absl::StatusOr<std::string> ReadContents(const Tensor& tensor) {
  if (!tensor.has_contents()) return FieldError(tensor.name(), "has no data");
  const inference::InferTensorContents& contents = tensor.contents();
  const bool is_bool = tensor.datatype() == kBool;
  const char* field = is_bool ? "bool_contents" : "bytes_contents";
  std::vector<const google::protobuf::FieldDescriptor*> filled;
  contents.GetReflection()->ListFields(contents, &filled);
  if (filled.size() != 1 || filled[0]->name() != field) {
    return FieldError(tensor.name(),
                      absl::StrCat("must have its data in contents.", field, " alone"));
  }
  const int size = is_bool ? contents.bool_contents_size() : contents.bytes_contents_size();
  if (size != 1) return FieldError(tensor.name(), absl::StrCat("has ", size, " elements, not 1"));
  if (is_bool) return std::string(1, contents.bool_contents(0) ? '\1' : '\0');
  return contents.bytes_contents(0);
}

absl::StatusOr<std::string> ReadElement(const inference::ModelInferRequest& request, int index) {
  const Tensor& tensor = request.inputs(index);
  RETURN_IF_ERROR(CheckTensor(tensor, index));
  for (int i = 0; i < index; ++i) {
    if (request.inputs(i).name() == tensor.name()) return FieldError(tensor.name(), "comes twice");
  }
  if (request.raw_input_contents().empty()) return ReadContents(tensor);
  if (tensor.has_contents()) {
    return FieldError(tensor.name(), "has contents, but there are raw_input_contents as well");
  }
  return ReadRaw(tensor, request.raw_input_contents(index));
}

}  // namespace

absl::StatusOr<KserveInputs> ReadInputs(const inference::ModelInferRequest& request) {
  KserveInputs inputs;
  inputs.raw = !request.raw_input_contents().empty();
  if (inputs.raw && request.raw_input_contents_size() != request.inputs_size()) {
    return FieldError("raw_input_contents",
                      absl::StrCat("has data of ", request.raw_input_contents_size(),
                                   " tensors, but there are ", request.inputs_size(), " inputs"));
  }
  bool has_text = false;
  for (int i = 0; i < request.inputs_size(); ++i) {
    ASSIGN_OR_RETURN(std::string element, ReadElement(request, i));
    const Tensor& tensor = request.inputs(i);
    if (tensor.name() == kTextInput) {
      if (!tokenizer::IsValidUtf8(element)) return FieldError(kTextInput, "is not UTF-8");
      has_text = true;
      inputs.text = std::move(element);
      inputs.shape.assign(tensor.shape().begin(), tensor.shape().end());
    } else if (tensor.name() == kSamplingParameters) {
      inputs.sampling_parameters = std::move(element);
    } else if (tensor.name() == kStream) {
      inputs.stream = element[0] != 0;
    } else {
      inputs.exclude_input = element[0] != 0;
    }
  }
  if (!has_text) return FieldError(kTextInput, "is missing");
  return inputs;
}

void AddTextOutput(const std::string& text, const std::vector<int64_t>& shape, bool raw,
                   inference::ModelInferResponse& response) {
  auto& output = *response.add_outputs();
  output.set_name(kTextOutput);
  output.set_datatype(kBytes);
  output.mutable_shape()->Assign(shape.begin(), shape.end());
  if (!raw) {
    output.mutable_contents()->add_bytes_contents(text);
    return;
  }
  std::string& data = *response.add_raw_output_contents();
  for (size_t i = 0; i < kLengthBytes; ++i) data.push_back(static_cast<char>(text.size() >> 8 * i));
  data += text;
}

void DescribeTensors(inference::ModelMetadataResponse& metadata) {
  const auto describe = [](const char* name, const char* datatype, auto& tensor) {
    tensor.set_name(name);
    tensor.set_datatype(datatype);
    tensor.add_shape(1);
  };
  for (const Known& input : kInputs) describe(input.name, input.datatype, *metadata.add_inputs());
  describe(kTextOutput, kBytes, *metadata.add_outputs());
}

}  // namespace sluice::api
