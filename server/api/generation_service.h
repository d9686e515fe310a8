// sluice.v1.Generation over gRPC. Requests arrive as bytes, so that bytes that are no message get a
// fitting answer; see wire_message.h.
#pragma once

#include "api/api_context.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice::api {

using GenerationBase =
    v1::Generation::WithRawCallbackMethod_Generate<v1::Generation::WithRawCallbackMethod_Tokenize<
        v1::Generation::WithRawCallbackMethod_Detokenize<v1::Generation::Service>>>;

// Thread-safe; called by gRPC.
class GenerationService final : public GenerationBase {
 public:
  // `api` must outlive this.
  explicit GenerationService(ApiContext& api) : api_(api) {}

  using GenerationBase::Detokenize;
  using GenerationBase::Generate;
  using GenerationBase::Tokenize;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  ApiContext& api_;
};

}  // namespace sluice::api
