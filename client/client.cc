#include "client/client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "client/connection.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "sluice/v1/control.grpc.pb.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice::client {
namespace {

// Log-probabilities of a whole prompt come in one message, which gRPC's default of 4 MiB would
// refuse.
constexpr int kMaxMessageBytes = 256 << 20;

// The codes of gRPC and Abseil are the same numbers.
absl::Status ToAbslStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

grpc::ChannelArguments Arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  return arguments;
}

}  // namespace

void Cancellation::Cancel() {
  std::vector<std::shared_ptr<grpc::ClientContext>> calls;
  {
    base::MutexLock lock(mutex_);
    cancelled_ = true;
    calls = calls_;
  }
  // Not under the lock: ending a call may run its callbacks, which remove it.
  for (const auto& call : calls) call->TryCancel();
}

bool Cancellation::cancelled() const {
  base::MutexLock lock(mutex_);
  return cancelled_;
}

void Cancellation::Add(std::shared_ptr<grpc::ClientContext> call) {
  bool cancelled = false;
  {
    base::MutexLock lock(mutex_);
    cancelled = cancelled_;
    calls_.push_back(call);
  }
  if (cancelled) call->TryCancel();
}

void Cancellation::Remove(const grpc::ClientContext* call) {
  base::MutexLock lock(mutex_);
  const auto found = std::find_if(calls_.begin(), calls_.end(),
                                  [call](const auto& context) { return context.get() == call; });
  if (found != calls_.end()) calls_.erase(found);
}

struct Client::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : generation(channel), control(channel), health(channel) {}

  v1::Generation::Stub generation;
  v1::Control::Stub control;
  grpc::health::v1::Health::Stub health;
};

// One attempt at a call: its context, with the options applied, known to the cancellation as long
// as this exists. What came beside a refusal (such as grpc-retry-pushback-ms) is in the context.
class Client::Call {
 public:
  explicit Call(const CallOptions& options)
      : cancellation_(options.cancellation), context_(std::make_shared<grpc::ClientContext>()) {
    if (options.timeout < absl::InfiniteDuration()) {
      context_->set_deadline(absl::ToChronoTime(absl::Now() + options.timeout));
    }
    if (cancellation_ != nullptr) cancellation_->Add(context_);
  }
  ~Call() {
    if (cancellation_ != nullptr) cancellation_->Remove(context_.get());
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  grpc::ClientContext* context() { return context_.get(); }

  // A unary call from beginning to end.
  template <typename Stub, typename Request, typename Response>
  static absl::StatusOr<Response> Unary(Stub& stub,
                                        grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                                     const Request&, Response*),
                                        const Request& request, const CallOptions& options) {
    Call call(options);
    Response response;
    const grpc::Status status = (stub.*method)(call.context(), request, &response);
    if (!status.ok()) return ToAbslStatus(status);
    return response;
  }

 private:
  Cancellation* const cancellation_;
  const std::shared_ptr<grpc::ClientContext> context_;
};

// Reads one stream to its end and then deletes itself.
class Client::GenerateReactor : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  GenerateReactor(const v1::GenerateRequest& request, const CallOptions& options,
                  EventCallback on_event, DoneCallback on_done)
      : call_(options),
        request_(request),
        on_event_(std::move(on_event)),
        on_done_(std::move(on_done)) {}

  void Start(v1::Generation::Stub& stub) {
    stub.async()->Generate(call_.context(), &request_, this);
    StartRead(&response_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    on_event_(response_);
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    // The call is forgotten first: after on_done its cancellation may be gone.
    const DoneCallback on_done = std::move(on_done_);
    const absl::Status result = ToAbslStatus(status);
    delete this;
    on_done(result);
  }

 private:
  Call call_;
  const v1::GenerateRequest request_;
  v1::GenerateResponse response_;
  const EventCallback on_event_;
  DoneCallback on_done_;
};

// Without files, nothing can be wrong with them.
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
  Call call(options);
  const auto reader = stubs_->generation.Generate(call.context(), request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) on_event(response);
  return ToAbslStatus(reader->Finish());
}

void Client::StartGenerate(const v1::GenerateRequest& request, const CallOptions& options,
                           EventCallback on_event, DoneCallback on_done) const {
  (new GenerateReactor(request, options, std::move(on_event), std::move(on_done)))
      ->Start(stubs_->generation);
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(const v1::TokenizeRequest& request,
                                                      const CallOptions& options) const {
  return Call::Unary(stubs_->generation, &v1::Generation::Stub::Tokenize, request, options);
}

absl::StatusOr<v1::DetokenizeResponse> Client::Detokenize(const v1::DetokenizeRequest& request,
                                                          const CallOptions& options) const {
  return Call::Unary(stubs_->generation, &v1::Generation::Stub::Detokenize, request, options);
}

absl::StatusOr<v1::GetServerInfoResponse> Client::GetServerInfo(const CallOptions& options) const {
  return Call::Unary(stubs_->control, &v1::Control::Stub::GetServerInfo, {}, options);
}

absl::StatusOr<v1::GetModelInfoResponse> Client::GetModelInfo(const CallOptions& options) const {
  return Call::Unary(stubs_->control, &v1::Control::Stub::GetModelInfo, {}, options);
}

absl::StatusOr<v1::GetLoadResponse> Client::GetLoad(const CallOptions& options) const {
  return Call::Unary(stubs_->control, &v1::Control::Stub::GetLoad, {}, options);
}

absl::StatusOr<v1::GetExpertLoadResponse> Client::GetExpertLoad(
    const v1::GetExpertLoadRequest& request, const CallOptions& options) const {
  return Call::Unary(stubs_->control, &v1::Control::Stub::GetExpertLoad, request, options);
}

absl::Status Client::Abort(const v1::AbortRequest& request, const CallOptions& options) const {
  return Call::Unary(stubs_->control, &v1::Control::Stub::Abort, request, options).status();
}

absl::Status Client::CheckHealth(const std::string& service, const CallOptions& options) const {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  const auto response =
      Call::Unary(stubs_->health, &grpc::health::v1::Health::Stub::Check, request, options);
  if (!response.ok()) return response.status();
  if (response->status() == grpc::health::v1::HealthCheckResponse::SERVING) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat(service.empty() ? "the server" : service, " is ",
                   grpc::health::v1::HealthCheckResponse::ServingStatus_Name(response->status())));
}

}  // namespace sluice::client
