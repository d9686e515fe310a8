#include "api/status_mapping.h"

#include <gtest/gtest.h>

#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sluice::api {
namespace {

google::rpc::Status DetailsOf(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  return details;
}

TEST(StatusMappingTest, EveryCodeKeepsItsNumberAndMessage) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  for (int code = 1; code <= 16; ++code) {
    const auto status =
        ToGrpcStatus(absl::Status(static_cast<absl::StatusCode>(code), "what happened"));
    EXPECT_EQ(status.error_code(), code);
    EXPECT_EQ(status.error_message(), "what happened");
    EXPECT_EQ(status.error_details(), "");
  }
}

TEST(StatusMappingTest, FieldErrorNamesTheFieldInMessageAndDetails) {
  const auto status = ToGrpcStatus(FieldError("stopping.max_tokens", "is 0"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "stopping.max_tokens: is 0");
  const google::rpc::Status details = DetailsOf(status);
  EXPECT_EQ(details.code(), 3);
  EXPECT_EQ(details.message(), status.error_message());
  google::rpc::BadRequest bad_request;
  ASSERT_EQ(details.details_size(), 1);
  ASSERT_TRUE(details.details(0).UnpackTo(&bad_request));
  ASSERT_EQ(bad_request.field_violations_size(), 1);
  EXPECT_EQ(bad_request.field_violations(0).field(), "stopping.max_tokens");
  EXPECT_EQ(bad_request.field_violations(0).description(), "is 0");
}

TEST(StatusMappingTest, RetryDelayTravelsAsRetryInfo) {
  const absl::Status refused =
      WithRetryDelay(absl::ResourceExhaustedError("full"), absl::Milliseconds(1250));
  EXPECT_EQ(RetryDelayOf(refused), absl::Milliseconds(1250));
  EXPECT_EQ(RetryDelayOf(absl::ResourceExhaustedError("full")), std::nullopt);
  google::rpc::RetryInfo info;
  ASSERT_TRUE(DetailsOf(ToGrpcStatus(refused)).details(0).UnpackTo(&info));
  EXPECT_EQ(info.retry_delay().seconds(), 1);
  EXPECT_EQ(info.retry_delay().nanos(), 250'000'000);
}

TEST(StatusMappingTest, LongMessagesAreCutAtACharactersEnd) {
  std::string message;
  for (int i = 0; i < 5000; ++i) message += "é";
  const auto status = ToGrpcStatus(FieldError("text", message));
  EXPECT_LT(status.error_message().size() * 3 + status.error_details().size() * 4 / 3, 8192u);
  const std::string kept = status.error_message().substr(0, status.error_message().size() - 3);
  EXPECT_EQ(kept.substr(kept.size() - 2), "é");
  EXPECT_EQ(status.error_message().substr(kept.size()), "...");
}

}  // namespace
}  // namespace sluice::api
