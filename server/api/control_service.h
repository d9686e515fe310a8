// sluice.v1.Control over gRPC: what the server is, how busy it is, and what its experts do.
#pragma once

#include "api/api_context.h"
#include "sluice/v1/control.grpc.pb.h"

namespace sluice::api {

using ControlBase = v1::Control::WithRawCallbackMethod_GetServerInfo<
    v1::Control::WithRawCallbackMethod_GetModelInfo<
        v1::Control::WithRawCallbackMethod_GetLoad<v1::Control::WithRawCallbackMethod_GetExpertLoad<
            v1::Control::WithRawCallbackMethod_Abort<v1::Control::Service>>>>>;

// Thread-safe; called by gRPC.
class ControlService final : public ControlBase {
 public:
  // `api` must outlive this.
  explicit ControlService(ApiContext& api) : api_(api) {}

  using ControlBase::Abort;
  using ControlBase::GetExpertLoad;
  using ControlBase::GetLoad;
  using ControlBase::GetModelInfo;
  using ControlBase::GetServerInfo;
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer* request,
                                    grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetExpertLoad(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;

 private:
  ApiContext& api_;
};

}  // namespace sluice::api
