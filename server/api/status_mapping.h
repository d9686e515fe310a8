// From absl::Status, which the rooms speak, to grpc::Status, which goes over the wire.
//
// Details travel as payloads: a payload's type URL names a message of google.rpc, and its bytes are
// that message. They reach the client in grpc-status-details-bin. All functions are pure.
#pragma once

#include <grpcpp/support/status.h>

#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace sluice::api {

// INVALID_ARGUMENT with the message "field: description" and a google.rpc.BadRequest that names the
// field.
absl::Status FieldError(absl::string_view field, absl::string_view description);

// `status`, with a google.rpc.RetryInfo that says when to come back.
absl::Status WithRetryDelay(absl::Status status, absl::Duration delay);

// RESOURCE_EXHAUSTED, to come back in a second: too many long requests wait to be tokenized.
absl::Status TextThreadFull();

// The same: too many calls of ModelStreamInfer are open.
absl::Status TooManyStreams();

// The delay that WithRetryDelay added.
std::optional<absl::Duration> RetryDelayOf(const absl::Status& status);

// The status as gRPC sends it, with a google.rpc.Status around its details if it has any. A message
// is cut to what fits into a header, at a character's end.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace sluice::api
