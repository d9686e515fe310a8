// Attempts: the attempts at one call, one after another: their contexts, and what follows each.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/retry_timer.h"

namespace sluice::client {

// The codes of gRPC and Abseil are the same numbers.
absl::Status ToAbslStatus(const grpc::Status& status);

// When the server wants to be asked again after a call that ended so: from the trailing metadata
// grpc-retry-pushback-ms or else a RetryInfo detail. Negative if it does not want that.
std::optional<absl::Duration> PushbackOf(const grpc::ClientContext& context,
                                         const grpc::Status& status);

// Used by one thread at a time. While an attempt runs or is waited for, the call's cancellation
// knows it.
class Attempts {
 public:
  explicit Attempts(const CallOptions& options);
  ~Attempts();
  Attempts(const Attempts&) = delete;
  Attempts& operator=(const Attempts&) = delete;

  // The context of the next attempt, valid until Next, Wait or the end.
  grpc::ClientContext& Next();
  // How long to wait before another one, after the attempt ended with `status`; absent if that is
  // how the call ends. Tells on_retry.
  std::optional<absl::Duration> DelayAfter(const grpc::Status& status, bool answered);
  // Has `done` called once, when the time is over or the call is cancelled, which shows in
  // cancelled().
  void Wait(absl::Duration delay, std::function<void()> done);
  bool cancelled() const;

 private:
  // Has the cancellation call `end`.
  void Know(std::function<void()> end);
  void Forget();

  const CallOptions options_;
  RetryTimer& timer_;
  const absl::Time start_;
  int number_ = 0;
  std::shared_ptr<grpc::ClientContext> context_;
  std::optional<uint64_t> known_as_;
};

}  // namespace sluice::client
