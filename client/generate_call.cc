#include "client/generate_call.h"

#include <utility>

namespace sluice::client {

// Reads the stream of one attempt to its end and then deletes itself.
class GenerateCall::Reactor final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  explicit Reactor(std::shared_ptr<GenerateCall> call) : call_(std::move(call)) {}

  void Start(grpc::ClientContext& context) {
    call_->stub_.async()->Generate(&context, &call_->request_, this);
    StartRead(&response_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    answered_ = true;
    call_->on_event_(response_);
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    const auto call = std::move(call_);
    const bool answered = answered_;
    // `status` is not this object's.
    delete this;
    call->OnAttemptDone(status, answered);
  }

 private:
  std::shared_ptr<GenerateCall> call_;
  v1::GenerateResponse response_;
  bool answered_ = false;
};

void GenerateCall::Start(v1::Generation::Stub& stub, const v1::GenerateRequest& request,
                         const CallOptions& options, Client::EventCallback on_event,
                         Client::DoneCallback on_done) {
  std::shared_ptr<GenerateCall>(
      new GenerateCall(stub, request, options, std::move(on_event), std::move(on_done)))
      ->StartAttempt();
}

GenerateCall::GenerateCall(v1::Generation::Stub& stub, const v1::GenerateRequest& request,
                           const CallOptions& options, Client::EventCallback on_event,
                           Client::DoneCallback on_done)
    : stub_(stub),
      request_(request),
      on_event_(std::move(on_event)),
      on_done_(std::move(on_done)),
      attempts_(std::in_place, options) {}

void GenerateCall::StartAttempt() {
  // Deletes itself in OnDone.
  (new Reactor(shared_from_this()))->Start(attempts_->Next());
}

void GenerateCall::OnAttemptDone(const grpc::Status& status, bool answered) {
  const auto delay = attempts_->DelayAfter(status, answered);
  if (!delay) return End(ToAbslStatus(status));
  attempts_->Wait(*delay, [self = shared_from_this()] {
    if (self->attempts_->cancelled()) {
      self->End(absl::CancelledError("cancelled before it was tried again"));
    } else {
      self->StartAttempt();
    }
  });
}

void GenerateCall::End(const absl::Status& status) {
  attempts_.reset();
  const Client::DoneCallback on_done = std::move(on_done_);
  on_done(status);
}

}  // namespace sluice::client
