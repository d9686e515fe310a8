// RunCall: a call from beginning to end on this thread, with its attempts and the waits between.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "client/client.h"

namespace sluice::client {

// `attempt` makes one attempt, and says in `answered` whether any part of an answer came.
absl::Status RunCall(const CallOptions& options,
                     absl::FunctionRef<grpc::Status(grpc::ClientContext&, bool& answered)> attempt);

}  // namespace sluice::client
