#include "api/wire_message.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/unknown_field_set.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "api/status_mapping.h"
#include "base/check.h"
#include "tokenizer/utf8.h"

namespace sluice::api {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::UnknownFieldSet;

// Path of the first string field in `fields`, read as a `type`, that is not UTF-8. Goes no deeper
// than the message types do, none of which contains itself.
std::optional<std::string> FindBadString(const UnknownFieldSet& fields, const Descriptor& type) {
  for (int i = 0; i < fields.field_count(); ++i) {
    const auto& value = fields.field(i);
    const FieldDescriptor* field = type.FindFieldByNumber(value.number());
    if (field == nullptr || value.type() != google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED) {
      continue;
    }
    if (field->type() == FieldDescriptor::TYPE_STRING &&
        !tokenizer::IsValidUtf8(value.length_delimited())) {
      return field->name();
    }
    UnknownFieldSet nested;
    if (field->type() == FieldDescriptor::TYPE_MESSAGE &&
        nested.ParseFromString(value.length_delimited())) {
      if (auto path = FindBadString(nested, *field->message_type())) {
        return absl::StrCat(field->name(), ".", *path);
      }
    }
  }
  return std::nullopt;
}

}  // namespace

absl::Status ParseInto(const grpc::ByteBuffer& bytes, google::protobuf::Message& message) {
  grpc::ByteBuffer readable(bytes);
  grpc::ProtoBufferReader reader(&readable);
  if (reader.status().ok() && message.ParseFromZeroCopyStream(&reader)) return absl::OkStatus();

  const Descriptor& type = *message.GetDescriptor();
  grpc::ByteBuffer again(bytes);
  grpc::ProtoBufferReader raw_reader(&again);
  UnknownFieldSet fields;
  if (raw_reader.status().ok() && fields.ParseFromZeroCopyStream(&raw_reader)) {
    if (auto path = FindBadString(fields, type)) return FieldError(*path, "is not UTF-8");
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the request is not a ", std::string(type.full_name()), " message"));
}

grpc::ByteBuffer Serialize(const google::protobuf::Message& message) {
  std::string bytes;
  CHECK(message.SerializeToString(&bytes));
  grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace sluice::api
