#include "api/wire_message.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::api {
namespace {

grpc::ByteBuffer Buffer(const std::string& bytes) {
  // In two slices, as it may come from the network.
  const grpc::Slice slices[] = {grpc::Slice(bytes.substr(0, bytes.size() / 2)),
                                grpc::Slice(bytes.substr(bytes.size() / 2))};
  return grpc::ByteBuffer(slices, 2);
}

// A length-delimited field on the wire. REQUIRES: number < 16, size < 128.
std::string Field(int number, const std::string& bytes) {
  return std::string(1, static_cast<char>(number << 3 | 2)) +
         std::string(1, static_cast<char>(bytes.size())) + bytes;
}

TEST(WireMessageTest, ReadsWhatSerializeWrote) {
  v1::GenerateRequest request;
  request.set_text("héllo");
  request.mutable_stopping()->set_max_tokens(3);
  const auto parsed = Parse<v1::GenerateRequest>(Serialize(request));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->SerializeAsString(), request.SerializeAsString());
}

TEST(WireMessageTest, NothingIsTheEmptyMessage) {
  EXPECT_TRUE(Parse<v1::GenerateRequest>(Buffer("")).ok());
  EXPECT_TRUE(Parse<v1::GenerateRequest>(grpc::ByteBuffer(nullptr, 0)).ok());
}

TEST(WireMessageTest, StringsThatAreNotUtf8AreNamed) {
  const std::string message = Field(1, "user") + Field(2, "\xE9t\xE9");
  const struct {
    std::string bytes;
    std::string field;
  } rows[] = {
      {Field(3, "\xFF"), "text"},
      {Field(3, "\xC0\x80"), "text"},          // overlong
      {Field(3, "\xE0\x80\x80"), "text"},      // overlong
      {Field(3, "\xED\xA0\x80"), "text"},      // surrogate
      {Field(3, "\xF4\x90\x80\x80"), "text"},  // beyond U+10FFFF
      {Field(3, "abc\xE2\x82"), "text"},       // cut
      {Field(1, "\x80"), "request_id"},
      {Field(5, Field(1, message)), "chat.messages.content"},
      {Field(8, Field(3, "ok") + Field(3, "\xF8")), "stopping.stop_strings"},
  };
  for (const auto& row : rows) {
    const absl::Status status = Parse<v1::GenerateRequest>(Buffer(row.bytes)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << row.field;
    EXPECT_EQ(std::string(status.message()), absl::StrCat(row.field, ": is not UTF-8"));
  }
}

TEST(WireMessageTest, BytesThatAreNoMessageAreInvalid) {
  for (const std::string bytes : {std::string("\xFF\xFF\xFF"), std::string("\x1A\x7Fshort"),
                                  std::string("\x00", 1), Field(7, "\x0D\x00")}) {
    const absl::Status status = Parse<v1::GenerateRequest>(Buffer(bytes)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(status.message(), "sluice.v1.GenerateRequest")) << status;
  }
}

}  // namespace
}  // namespace sluice::api
