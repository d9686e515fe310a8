#include "api/status_mapping.h"

#include <cstdint>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sluice::api {
namespace {

constexpr char kBadRequestUrl[] = "type.googleapis.com/google.rpc.BadRequest";
constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";

// gRPC peers accept 8 KiB of headers by default. The message is in them twice (plainly, percent
// encoded, and in the details, beside a field's name and its description), so this leaves room even
// if every byte needs three.
constexpr size_t kMaxMessageBytes = 1024;

std::string CutMessage(absl::string_view message) {
  if (message.size() <= kMaxMessageBytes) return std::string(message);
  size_t end = kMaxMessageBytes;
  const auto continues_character = [&](size_t i) {
    return (static_cast<uint8_t>(message[i]) & 0xC0) == 0x80;
  };
  while (end > 0 && continues_character(end)) --end;
  return absl::StrCat(message.substr(0, end), "...");
}

}  // namespace

absl::Status FieldError(absl::string_view field, absl::string_view description) {
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field(CutMessage(field));
  violation->set_description(CutMessage(description));
  absl::Status status = absl::InvalidArgumentError(absl::StrCat(field, ": ", description));
  status.SetPayload(kBadRequestUrl, absl::Cord(bad_request.SerializeAsString()));
  return status;
}

absl::Status WithRetryDelay(absl::Status status, absl::Duration delay) {
  google::rpc::RetryInfo info;
  const int64_t milliseconds = absl::ToInt64Milliseconds(delay);
  info.mutable_retry_delay()->set_seconds(milliseconds / 1000);
  info.mutable_retry_delay()->set_nanos(static_cast<int32_t>(milliseconds % 1000) * 1'000'000);
  status.SetPayload(kRetryInfoUrl, absl::Cord(info.SerializeAsString()));
  return status;
}

absl::Status TextThreadFull() {
  return WithRetryDelay(
      absl::ResourceExhaustedError("too many long requests are waiting to be tokenized"),
      absl::Seconds(1));
}

absl::Status TooManyStreams() {
  return WithRetryDelay(absl::ResourceExhaustedError("too many streams are open"),
                        absl::Seconds(1));
}

std::optional<absl::Duration> RetryDelayOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryInfoUrl);
  if (!payload.has_value()) return std::nullopt;
  google::rpc::RetryInfo info;
  if (!info.ParseFromString(std::string(*payload))) return std::nullopt;
  return absl::Seconds(info.retry_delay().seconds()) +
         absl::Nanoseconds(info.retry_delay().nanos());
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.raw_code());
  const std::string message = CutMessage(status.message());
  google::rpc::Status details;
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& value) {
    auto* detail = details.add_details();
    detail->set_type_url(std::string(url));
    detail->set_value(std::string(value));
  });
  if (details.details().empty()) return grpc::Status(code, message);
  details.set_code(code);
  details.set_message(message);
  return grpc::Status(code, message, details.SerializeAsString());
}

}  // namespace sluice::api
