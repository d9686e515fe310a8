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

namespace sluice::api {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::UnknownFieldSet;

// Whether `text` is well-formed UTF-8 (Unicode 15, table 3-7).
bool IsUtf8(absl::string_view text) {
  size_t i = 0;
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(text[at]); };
  while (i < text.size()) {
    const uint8_t lead = byte(i++);
    if (lead < 0x80) continue;
    if (lead < 0xC2 || lead > 0xF4) return false;
    const int continuations = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    uint8_t low = 0x80;
    uint8_t high = 0xBF;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
    for (int n = 0; n < continuations; ++n, low = 0x80, high = 0xBF) {
      if (i == text.size() || byte(i) < low || byte(i) > high) return false;
      ++i;
    }
  }
  return true;
}

// Path of the first string field in `fields`, read as a `type`, that is not UTF-8. Goes no deeper
// than the message types do, none of which contains itself.
std::optional<std::string> FindBadString(const UnknownFieldSet& fields, const Descriptor& type) {
  for (int i = 0; i < fields.field_count(); ++i) {
    const auto& value = fields.field(i);
    const FieldDescriptor* field = type.FindFieldByNumber(value.number());
    if (field == nullptr || value.type() != google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED) {
      continue;
    }
    if (field->type() == FieldDescriptor::TYPE_STRING && !IsUtf8(value.length_delimited())) {
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
