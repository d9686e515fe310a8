#include "client/client.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "client/connection.h"
#include "client/generate_call.h"
#include "client/run_call.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "sluice/v1/control.grpc.pb.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice::client {
namespace {

// The texts and log-probabilities of a thousand tokens may be more than gRPC's default of 4 MiB.
constexpr int kMaxMessageBytes = 256 << 20;

grpc::ChannelArguments Arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  // Else all clients of one server in this process would share a connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return arguments;
}

// A unary call from beginning to end.
template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> RunUnary(Stub& stub,
                                  grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                               Response*),
                                  const Request& request, const CallOptions& options) {
  Response response;
  const absl::Status status = RunCall(options, [&](grpc::ClientContext& context, bool&) {
    return (stub.*method)(&context, request, &response);
  });
  if (!status.ok()) return status;
  return response;
}

}  // namespace

struct Client::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : generation(channel), control(channel), health(channel) {}

  v1::Generation::Stub generation;
  v1::Control::Stub control;
  grpc::health::v1::Health::Stub health;
};

Client::Client(const std::string& address)
    : Client(std::make_unique<Stubs>(*MakeChannel({.address = address}, Arguments()))) {}

Client::Client(std::unique_ptr<Stubs> stubs) : stubs_(std::move(stubs)) {}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const ConnectionOptions& options) {
  ASSIGN_OR_RETURN(const auto channel, MakeChannel(options, Arguments()));
  return std::unique_ptr<Client>(new Client(std::make_unique<Stubs>(channel)));
}

Client::~Client() = default;

absl::Status Client::Generate(const v1::GenerateRequest& request, const CallOptions& options,
                              absl::FunctionRef<void(const v1::GenerateResponse&)> on_event) const {
  return RunCall(options, [&](grpc::ClientContext& context, bool& answered) {
    const auto reader = stubs_->generation.Generate(&context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      answered = true;
      on_event(response);
    }
    return reader->Finish();
  });
}

void Client::StartGenerate(const v1::GenerateRequest& request, const CallOptions& options,
                           EventCallback on_event, DoneCallback on_done) const {
  GenerateCall::Start(stubs_->generation, request, options, std::move(on_event),
                      std::move(on_done));
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(const v1::TokenizeRequest& request,
                                                      const CallOptions& options) const {
  return RunUnary(stubs_->generation, &v1::Generation::Stub::Tokenize, request, options);
}

absl::StatusOr<v1::DetokenizeResponse> Client::Detokenize(const v1::DetokenizeRequest& request,
                                                          const CallOptions& options) const {
  return RunUnary(stubs_->generation, &v1::Generation::Stub::Detokenize, request, options);
}

absl::StatusOr<v1::GetServerInfoResponse> Client::GetServerInfo(const CallOptions& options) const {
  return RunUnary(stubs_->control, &v1::Control::Stub::GetServerInfo, {}, options);
}

absl::StatusOr<v1::GetModelInfoResponse> Client::GetModelInfo(const CallOptions& options) const {
  return RunUnary(stubs_->control, &v1::Control::Stub::GetModelInfo, {}, options);
}

absl::StatusOr<v1::GetLoadResponse> Client::GetLoad(const CallOptions& options) const {
  return RunUnary(stubs_->control, &v1::Control::Stub::GetLoad, {}, options);
}

absl::StatusOr<v1::GetExpertLoadResponse> Client::GetExpertLoad(
    const v1::GetExpertLoadRequest& request, const CallOptions& options) const {
  return RunUnary(stubs_->control, &v1::Control::Stub::GetExpertLoad, request, options);
}

absl::Status Client::Abort(const v1::AbortRequest& request, const CallOptions& options) const {
  return RunUnary(stubs_->control, &v1::Control::Stub::Abort, request, options).status();
}

absl::Status Client::CheckHealth(const std::string& service, const CallOptions& options) const {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  const auto response =
      RunUnary(stubs_->health, &grpc::health::v1::Health::Stub::Check, request, options);
  if (!response.ok()) return response.status();
  if (response->status() == grpc::health::v1::HealthCheckResponse::SERVING) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat(service.empty() ? "the server" : service, " is ",
                   grpc::health::v1::HealthCheckResponse::ServingStatus_Name(response->status())));
}

}  // namespace sluice::client
