#include "api/generation_service.h"

#include "api/generate_reactor.h"
#include "api/request_parser.h"
#include "api/unary_call.h"
#include "base/status_macros.h"

namespace sluice::api {

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return GenerateReactor::Start(api_, *context, *request);
}

grpc::ServerUnaryReactor* GenerationService::Tokenize(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  const auto run =
      [&api = api_](const v1::TokenizeRequest& wire) -> absl::StatusOr<v1::TokenizeResponse> {
    ASSIGN_OR_RETURN(const ServedModel* model, api.slot.ForWork());
    return RunTokenize(wire, model->facts);
  };
  return RunUnary(api_, metrics::Method::kTokenize, *context, *request, *response,
                  Handler<v1::TokenizeRequest>(run));
}

grpc::ServerUnaryReactor* GenerationService::Detokenize(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  const auto run =
      [&api = api_](const v1::DetokenizeRequest& wire) -> absl::StatusOr<v1::DetokenizeResponse> {
    ASSIGN_OR_RETURN(const ServedModel* model, api.slot.ForWork());
    return RunDetokenize(wire, model->facts);
  };
  return RunUnary(api_, metrics::Method::kDetokenize, *context, *request, *response,
                  Handler<v1::DetokenizeRequest>(run));
}

}  // namespace sluice::api
