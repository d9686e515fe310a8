// Reads requests from the bytes that came over the wire, and writes answers to them.
//
// gRPC's generated code would do this too, but it answers bytes that are no message with an empty
// UNIMPLEMENTED. All functions are pure and may be called from any thread.
#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sluice::api {

// Parses `bytes` into `message`. INVALID_ARGUMENT if they are not such a message; where the reason
// is a string that is not UTF-8, it names the field.
absl::Status ParseInto(const grpc::ByteBuffer& bytes, google::protobuf::Message& message);

template <typename Message>
absl::StatusOr<Message> Parse(const grpc::ByteBuffer& bytes) {
  Message message;
  absl::Status status = ParseInto(bytes, message);
  if (!status.ok()) return status;
  return message;
}

grpc::ByteBuffer Serialize(const google::protobuf::Message& message);

}  // namespace sluice::api
