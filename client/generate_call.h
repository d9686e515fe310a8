// GenerateCall: a Generate call that no thread waits for, with its attempts and the waits between.
#pragma once

#include <grpcpp/support/client_callback.h>

#include <memory>
#include <optional>

#include "client/attempts.h"
#include "client/client.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice::client {

class GenerateCall final : public std::enable_shared_from_this<GenerateCall> {
 public:
  // As Client::StartGenerate. `stub` must outlive the call.
  static void Start(v1::Generation::Stub& stub, const v1::GenerateRequest& request,
                    const CallOptions& options, Client::EventCallback on_event,
                    Client::DoneCallback on_done);

 private:
  class Reactor;

  GenerateCall(v1::Generation::Stub& stub, const v1::GenerateRequest& request,
               const CallOptions& options, Client::EventCallback on_event,
               Client::DoneCallback on_done);

  void StartAttempt();
  void OnAttemptDone(const grpc::Status& status, bool answered);
  // The last that happens here.
  void End(const absl::Status& status);

  v1::Generation::Stub& stub_;
  const v1::GenerateRequest request_;
  const Client::EventCallback on_event_;
  Client::DoneCallback on_done_;
  // Absent after the end: on_done may delete the cancellation.
  std::optional<Attempts> attempts_;
};

}  // namespace sluice::client
