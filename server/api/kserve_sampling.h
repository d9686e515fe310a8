// The sampling parameters of KServe clients, a JSON object, as options of a GenerateRequest.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "inference/grpc_predict_v2.pb.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::api {

// Longer texts are refused.
inline constexpr size_t kMaxSamplingParametersBytes = 64 * 1024;

// Both set the options that are named and leave the others absent: what is a valid value is
// ParseGenerate's to say. Numbers and truth values may be texts ("0.5", "true"), null is the same
// as absent. INVALID_ARGUMENT names the key for a key that is not known and a value of another
// type.

// `text`: of the tensor sampling_parameters.
absl::Status ReadSamplingTensor(absl::string_view text, v1::GenerateRequest& request);

// Of the request itself; without the keys that begin with "triton_".
absl::Status ReadSamplingParameters(
    const google::protobuf::Map<std::string, inference::InferParameter>& parameters,
    v1::GenerateRequest& request);

// What sets the option `field` of a GenerateRequest, such as "sampling.top_k" or
// "stopping.stop_strings[2]", or "max_tokens" as the engine calls it: "sampling_parameters.top_k"
// of the tensor, otherwise "parameters.top_k". Empty if nothing does.
std::string SamplingParameterOf(absl::string_view field, bool of_tensor);

}  // namespace sluice::api
