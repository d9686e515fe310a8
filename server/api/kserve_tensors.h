// The tensors of KServe requests and responses: their data as it is on the wire.
//
// Raw data of a BYTES tensor with one element, and of a BOOL tensor with one:
//
//   | length, 4 bytes, little-endian | length bytes |        | 0 or 1 |
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference/grpc_predict_v2.pb.h"

namespace sluice::api {

// Names and datatypes.
inline constexpr char kTextInput[] = "text_input";
inline constexpr char kStream[] = "stream";
inline constexpr char kSamplingParameters[] = "sampling_parameters";
inline constexpr char kExcludeInput[] = "exclude_input_in_output";
inline constexpr char kTextOutput[] = "text_output";
inline constexpr char kBytes[] = "BYTES";
inline constexpr char kBool[] = "BOOL";

// The inputs of a request.
struct KserveInputs {
  std::string text;
  // Of text_input: [1] or [1, 1].
  std::vector<int64_t> shape;
  bool stream = false;
  std::optional<std::string> sampling_parameters;
  std::optional<bool> exclude_input;
  // Whether the data came in raw_input_contents.
  bool raw = false;
};

// INVALID_ARGUMENT names the tensor if one is not known, comes twice, has another datatype or
// shape, no data, data of both kinds, or data that is not one element.
absl::StatusOr<KserveInputs> ReadInputs(const inference::ModelInferRequest& request);

// Adds text_output.
void AddTextOutput(const std::string& text, const std::vector<int64_t>& shape, bool raw,
                   inference::ModelInferResponse& response);

// The tensors that there are.
void DescribeTensors(inference::ModelMetadataResponse& metadata);

}  // namespace sluice::api
