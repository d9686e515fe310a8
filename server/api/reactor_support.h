// What the reactors of the api have in common.
#pragma once

#include <grpcpp/server_context.h>

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sluice::api {

// The deadline of a call; InfiniteFuture if it has none.
absl::Time DeadlineOf(const grpc::ServerContextBase& context);

// Has `function` called soon by a thread of gRPC's. May be called from any thread; never blocks.
void RunOnGrpcThread(std::function<void()> function);

// Says in the trailing metadata when to come back, if `status` says so (see WithRetryDelay).
void AddRetryMetadata(const absl::Status& status, grpc::CallbackServerContext& context);

}  // namespace sluice::api
