// How a client reaches its server: where it is, who it must be, and how the client says who it is
// itself. For the library's own sources: gRPC is in this header.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace sluice::client {

// A channel, which connects when it is needed, and balances if there may be several servers.
// Errors as Client::Create.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const ConnectionOptions& options,
                                                           grpc::ChannelArguments arguments);

}  // namespace sluice::client
