#include "api/kserve_infer_reactor.h"

#include <memory>
#include <utility>

#include "api/wire_message.h"
#include "base/status_macros.h"

namespace sluice::api {

grpc::ServerUnaryReactor* KserveInferReactor::Start(ApiContext& api,
                                                    grpc::CallbackServerContext& context,
                                                    const grpc::ByteBuffer& request,
                                                    grpc::ByteBuffer& response) {
  return TakeOn(std::shared_ptr<KserveInferReactor>(new KserveInferReactor(api, context, response)),
                request);
}

KserveInferReactor::KserveInferReactor(ApiContext& api, grpc::CallbackServerContext& context,
                                       grpc::ByteBuffer& response)
    : RequestCall(api, metrics::Method::kModelInfer, context), response_(response) {}

absl::StatusOr<v1::GenerateRequest> KserveInferReactor::ParseRequest(
    const grpc::ByteBuffer& bytes) {
  ASSIGN_OR_RETURN(const auto wire, Parse<inference::ModelInferRequest>(bytes));
  ASSIGN_OR_RETURN(KserveRequest parsed, ParseKserve(wire, /*may_stream=*/false));
  reply_ = std::move(parsed.reply);
  return std::move(parsed.request);
}

absl::Status KserveInferReactor::Reword(absl::Status status) const {
  return InKserveTerms(reply_, std::move(status));
}

KserveInferReactor::Move KserveInferReactor::Decide() {
  for (const v1::GenerateResponse& message : request_->Read()) text_ += message.delta().text();
  if (!request_->end()) return Move::kNothing;
  if (request_->end()->ok()) response_ = Serialize(MakeResponse(reply_, text_));
  return Move::kFinish;
}

void KserveInferReactor::Do(Move, grpc::Status status) { Finish(std::move(status)); }

}  // namespace sluice::api
