#include "api/kserve_request.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "api/kserve_sampling.h"
#include "api/kserve_tensors.h"
#include "api/status_mapping.h"
#include "base/status_macros.h"

namespace sluice::api {
namespace {

constexpr char kEmptyFinal[] = "triton_enable_empty_final_response";
constexpr char kFinal[] = "triton_final_response";
constexpr char kPushback[] = "retry_pushback_ms";

absl::StatusOr<bool> ReadEmptyFinal(const inference::ModelInferRequest& wire) {
  bool empty_final = false;
  for (const auto& [key, value] : wire.parameters()) {
    if (!absl::StartsWith(key, "triton_")) continue;
    const std::string name = absl::StrCat("parameters.", key);
    if (key != kEmptyFinal) return FieldError(name, "is not known");
    if (!value.has_bool_param()) return FieldError(name, "is not a bool_param");
    empty_final = value.bool_param();
  }
  return empty_final;
}

absl::Status CheckOutputs(const inference::ModelInferRequest& wire) {
  for (int i = 0; i < wire.outputs_size(); ++i) {
    const auto& output = wire.outputs(i);
    const std::string name = absl::StrCat("outputs[", i, "]");
    if (output.name() != kTextOutput) {
      return FieldError(name,
                        absl::StrCat("\"", output.name(), "\" is not an output of the model"));
    }
    if (i > 0) return FieldError(name, absl::StrCat(kTextOutput, " comes twice"));
    if (!output.parameters().empty()) {
      return FieldError(absl::StrCat(name, ".parameters.", output.parameters().begin()->first),
                        "is not known");
    }
  }
  return absl::OkStatus();
}

}  // namespace

KserveReply ReplyTo(const inference::ModelInferRequest& wire) {
  KserveReply reply;
  if (wire.id().size() <= kMaxKserveIdBytes) reply.id = wire.id();
  if (wire.model_name().size() <= kMaxKserveModelNameBytes) reply.model_name = wire.model_name();
  return reply;
}

absl::StatusOr<KserveRequest> ParseKserve(const inference::ModelInferRequest& wire,
                                          bool may_stream) {
  KserveRequest parsed;
  parsed.reply = ReplyTo(wire);
  if (wire.model_name().empty()) return FieldError("model_name", "is missing");
  RETURN_IF_ERROR(CheckModelVersion("model_version", wire.model_version()));
  if (wire.id().size() > kMaxKserveIdBytes) {
    return FieldError("id", absl::StrCat("has ", wire.id().size(), " bytes; at most ",
                                         kMaxKserveIdBytes, " are allowed"));
  }
  ASSIGN_OR_RETURN(parsed.reply.empty_final, ReadEmptyFinal(wire));
  RETURN_IF_ERROR(CheckOutputs(wire));
  ASSIGN_OR_RETURN(KserveInputs inputs, ReadInputs(wire));
  if (inputs.stream && !may_stream) {
    return FieldError(kStream, "is true: call ModelStreamInfer for an answer in pieces");
  }
  if (inputs.stream && inputs.exclude_input == false) {
    return FieldError(kExcludeInput, "is false, but an answer in pieces is without the prompt");
  }
  parsed.reply.shape = std::move(inputs.shape);
  parsed.reply.raw = inputs.raw;
  parsed.reply.stream = inputs.stream;
  // Ids of KServe clients need not be unique, so the request gets one of its own.
  parsed.request.set_model(wire.model_name());
  parsed.reply.sampling_tensor = inputs.sampling_parameters.has_value();
  if (inputs.sampling_parameters) {
    RETURN_IF_ERROR(ReadSamplingTensor(*inputs.sampling_parameters, parsed.request));
  } else {
    RETURN_IF_ERROR(ReadSamplingParameters(wire.parameters(), parsed.request));
  }
  parsed.request.set_text(std::move(inputs.text));
  if (!inputs.stream && !inputs.exclude_input.value_or(false)) {
    parsed.request.mutable_response()->set_echo(true);
  }
  return parsed;
}

absl::Status InKserveTerms(const KserveReply& reply, absl::Status status) {
  if (!absl::IsInvalidArgument(status) && !absl::IsNotFound(status)) return status;
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(status.message(), absl::MaxSplits(": ", 1));
  const auto [field, description] = parts;
  std::string name;
  if (field == "text" || field == "prompt") {
    name = kTextInput;
  } else if (field == "model") {
    name = "model_name";
  } else {
    name = SamplingParameterOf(field, reply.sampling_tensor);
  }
  if (name.empty()) return status;
  if (absl::IsInvalidArgument(status)) return FieldError(name, description);
  return absl::NotFoundError(absl::StrCat(name, ": ", description));
}

absl::Status CheckModelVersion(absl::string_view field, absl::string_view version) {
  if (version.empty() || version == kModelVersion) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat(field, ": \"", version,
                                          "\" is not served here; this server has version \"",
                                          kModelVersion, "\""));
}

inference::ModelInferResponse MakeResponse(const KserveReply& reply,
                                           const std::optional<std::string>& text) {
  inference::ModelInferResponse response;
  response.set_model_name(reply.model_name);
  response.set_model_version(kModelVersion);
  response.set_id(reply.id);
  if (text) AddTextOutput(*text, reply.shape, reply.raw, response);
  return response;
}

inference::ModelStreamInferResponse MakeStreamResponse(const KserveReply& reply,
                                                       const std::optional<std::string>& text,
                                                       bool final) {
  inference::ModelStreamInferResponse response;
  *response.mutable_infer_response() = MakeResponse(reply, text);
  (*response.mutable_infer_response()->mutable_parameters())[kFinal].set_bool_param(final);
  return response;
}

inference::ModelStreamInferResponse MakeStreamError(const KserveReply& reply,
                                                    const absl::Status& status) {
  auto response = MakeStreamResponse(reply, std::nullopt, /*final=*/true);
  // With the code, which other calls have in their status, and cut as theirs.
  response.set_error_message(absl::StrCat(absl::StatusCodeToString(status.code()), ": ",
                                          ToGrpcStatus(status).error_message()));
  if (const auto delay = RetryDelayOf(status)) {
    (*response.mutable_infer_response()->mutable_parameters())[kPushback].set_int64_param(
        absl::ToInt64Milliseconds(*delay));
  }
  return response;
}

}  // namespace sluice::api
