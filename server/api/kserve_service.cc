#include "api/kserve_service.h"

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "api/kserve_infer_reactor.h"
#include "api/kserve_request.h"
#include "api/kserve_stream_reactor.h"
#include "api/kserve_tensors.h"
#include "api/status_mapping.h"
#include "api/unary_call.h"
#include "base/status_macros.h"

namespace sluice::api {
namespace {

constexpr char kServerName[] = "sluice";
// `parameters` of requests are read.
constexpr char kParametersExtension[] = "parameters";

bool IsReady(const ApiContext& api) { return api.slot.phase() == ModelSlot::Phase::kReady; }

inference::ModelReadyResponse ModelIsReady(const inference::ModelReadyRequest& wire,
                                           const ApiContext& api) {
  inference::ModelReadyResponse response;
  const auto model = api.slot.ForWork();
  response.set_ready(model.ok() && wire.name() == (*model)->facts.name &&
                     CheckModelVersion("version", wire.version()).ok());
  return response;
}

absl::StatusOr<inference::ModelMetadataResponse> Describe(
    const inference::ModelMetadataRequest& wire, const ApiContext& api) {
  ASSIGN_OR_RETURN(const ServedModel* model, api.slot.ForReading());
  if (wire.name().empty()) return FieldError("name", "is missing");
  if (wire.name() != model->facts.name) {
    return absl::NotFoundError(absl::StrCat("name: \"", wire.name(),
                                            "\" is not served here; this server has \"",
                                            model->facts.name, "\""));
  }
  RETURN_IF_ERROR(CheckModelVersion("version", wire.version()));
  inference::ModelMetadataResponse response;
  response.set_name(model->facts.name);
  response.add_versions(kModelVersion);
  response.set_platform(absl::StrCat(kServerName, "_", model->info.family()));
  DescribeTensors(response);
  return response;
}

}  // namespace

grpc::ServerUnaryReactor* KserveService::ServerLive(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* request,
                                                    grpc::ByteBuffer* response) {
  const auto run =
      [](const inference::ServerLiveRequest&) -> absl::StatusOr<inference::ServerLiveResponse> {
    inference::ServerLiveResponse live;
    live.set_live(true);
    return live;
  };
  return RunUnary(api_, metrics::Method::kServerLive, *context, *request, *response,
                  Handler<inference::ServerLiveRequest>(run));
}

grpc::ServerUnaryReactor* KserveService::ServerReady(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  const auto run =
      [&api = api_](
          const inference::ServerReadyRequest&) -> absl::StatusOr<inference::ServerReadyResponse> {
    inference::ServerReadyResponse ready;
    ready.set_ready(IsReady(api));
    return ready;
  };
  return RunUnary(api_, metrics::Method::kServerReady, *context, *request, *response,
                  Handler<inference::ServerReadyRequest>(run));
}

grpc::ServerUnaryReactor* KserveService::ModelReady(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* request,
                                                    grpc::ByteBuffer* response) {
  const auto run = [&api = api_](const inference::ModelReadyRequest& wire)
      -> absl::StatusOr<inference::ModelReadyResponse> { return ModelIsReady(wire, api); };
  return RunUnary(api_, metrics::Method::kModelReady, *context, *request, *response,
                  Handler<inference::ModelReadyRequest>(run));
}

grpc::ServerUnaryReactor* KserveService::ServerMetadata(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  const auto run = [&api = api_](const inference::ServerMetadataRequest&)
      -> absl::StatusOr<inference::ServerMetadataResponse> {
    inference::ServerMetadataResponse metadata;
    metadata.set_name(kServerName);
    metadata.set_version(api.facts.version);
    metadata.add_extensions(kParametersExtension);
    return metadata;
  };
  return RunUnary(api_, metrics::Method::kServerMetadata, *context, *request, *response,
                  Handler<inference::ServerMetadataRequest>(run));
}

grpc::ServerUnaryReactor* KserveService::ModelMetadata(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  const auto run = [&api = api_](const inference::ModelMetadataRequest& wire) {
    return Describe(wire, api);
  };
  return RunUnary(api_, metrics::Method::kModelMetadata, *context, *request, *response,
                  Handler<inference::ModelMetadataRequest>(run));
}

grpc::ServerUnaryReactor* KserveService::ModelInfer(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* request,
                                                    grpc::ByteBuffer* response) {
  return KserveInferReactor::Start(api_, *context, *request, *response);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* KserveService::ModelStreamInfer(
    grpc::CallbackServerContext* context) {
  return KserveStreamReactor::Start(api_, *context);
}

}  // namespace sluice::api
