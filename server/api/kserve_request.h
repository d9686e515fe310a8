// A KServe request as a GenerateRequest, and what is generated as KServe responses. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "inference/grpc_predict_v2.pb.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::api {

// The one version of the model.
inline constexpr char kModelVersion[] = "1";
inline constexpr size_t kMaxKserveIdBytes = 128;
// Of what a response repeats; no model that is served has a longer name.
inline constexpr size_t kMaxKserveModelNameBytes = 256;

// In which form the client wants its answer.
struct KserveReply {
  // Both are empty if the request's was too long.
  std::string id;
  std::string model_name;
  // Where the sampling parameters came from: the tensor, or else the request's own.
  bool sampling_tensor = true;
  std::vector<int64_t> shape{1};
  // raw_output_contents or contents.
  bool raw = false;
  // In pieces, or all at once.
  bool stream = false;
  // Whether a stream ends with a response without outputs.
  bool empty_final = false;
};

struct KserveRequest {
  v1::GenerateRequest request;
  KserveReply reply;
};

// What an error is answered with, too: the parts that need no check.
KserveReply ReplyTo(const inference::ModelInferRequest& wire);

// `may_stream`: whether the call can carry an answer in pieces. INVALID_ARGUMENT names the field or
// the tensor; NOT_FOUND if it is another version's.
absl::StatusOr<KserveRequest> ParseKserve(const inference::ModelInferRequest& wire,
                                          bool may_stream);

// Why the GenerateRequest was refused, with tensors and parameters in place of its fields.
absl::Status InKserveTerms(const KserveReply& reply, absl::Status status);

// OK if `version` is that of the model or empty, NOT_FOUND otherwise; `field` names it.
absl::Status CheckModelVersion(absl::string_view field, absl::string_view version);

// A response with the next piece of the text; without outputs if there is none.
inference::ModelInferResponse MakeResponse(const KserveReply& reply,
                                           const std::optional<std::string>& text);

// The same on a stream; `final`: whether it is the last.
inference::ModelStreamInferResponse MakeStreamResponse(const KserveReply& reply,
                                                       const std::optional<std::string>& text,
                                                       bool final);

// The last response to a request on a stream that failed.
inference::ModelStreamInferResponse MakeStreamError(const KserveReply& reply,
                                                    const absl::Status& status);

}  // namespace sluice::api
