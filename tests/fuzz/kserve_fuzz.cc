// Any bytes as a KServe request: it is refused with an error that fits into a header, or it becomes
// a GenerateRequest that protobuf can carry, and an answer to it can be read back.
//
//   0      1
//   +------+---------+
//   | kind | message |
//   +------+---------+
//
// kind: w(ire) or t(ext) format of a ModelInferRequest; anything else: sampling_parameters.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "api/kserve_request.h"
#include "api/kserve_sampling.h"
#include "api/library_logs.h"
#include "api/status_mapping.h"
#include "base/check.h"
#include "tokenizer/utf8.h"

namespace sluice::api {
namespace {

class Silent final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
};

void CheckRefusal(const absl::Status& status) {
  CHECK(absl::IsInvalidArgument(status) || absl::IsNotFound(status));
  const grpc::Status wire = ToGrpcStatus(status);
  CHECK(!wire.error_message().empty());
  // In a header, percent-encoded at worst, and base64.
  CHECK(wire.error_message().size() * 3 + wire.error_details().size() * 4 / 3 < 8 * 1024);
}

// Whether raw data is one element with this text.
bool IsElement(absl::string_view raw, absl::string_view text) {
  if (raw.size() != text.size() + 4 || raw.substr(4) != text) return false;
  size_t length = 0;
  for (int i = 3; i >= 0; --i) length = length << 8 | static_cast<uint8_t>(raw[i]);
  return length == text.size();
}

void CheckRequest(const inference::ModelInferRequest& wire) {
  const auto parsed = ParseKserve(wire, /*may_stream=*/true);
  if (!parsed.ok()) {
    CheckRefusal(parsed.status());
    CHECK(!MakeStreamError(ReplyTo(wire), parsed.status()).error_message().empty());
    return;
  }
  CHECK(tokenizer::IsValidUtf8(parsed->request.text()));
  v1::GenerateRequest copy;
  CHECK(copy.ParseFromString(parsed->request.SerializeAsString()));
  const KserveReply& reply = parsed->reply;
  CHECK(reply.id.size() <= kMaxKserveIdBytes);
  CHECK(!(reply.stream && parsed->request.response().echo()));
  const std::string text = "answer";
  const auto response = MakeStreamResponse(reply, text, true).infer_response();
  CHECK(response.outputs_size() == 1);
  CHECK(reply.raw ? IsElement(response.raw_output_contents(0), text)
                  : response.outputs(0).contents().bytes_contents(0) == text);
}

}  // namespace
}  // namespace sluice::api

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool redirected = [] {
    sluice::api::RedirectLibraryLogs();
    return true;
  }();
  if (!redirected || size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  inference::ModelInferRequest wire;
  if (data[0] == 'w') {
    if (wire.ParseFromString(text)) sluice::api::CheckRequest(wire);
  } else if (data[0] == 't') {
    sluice::api::Silent silent;
    google::protobuf::TextFormat::Parser parser;
    parser.RecordErrorsTo(&silent);
    // Text format takes strings that are not UTF-8; the wire does not.
    if (parser.ParseFromString(text, &wire) && wire.ParseFromString(wire.SerializeAsString())) {
      sluice::api::CheckRequest(wire);
    }
  } else {
    sluice::v1::GenerateRequest request;
    const absl::Status status = sluice::api::ReadSamplingTensor(text, request);
    if (!status.ok()) sluice::api::CheckRefusal(status);
  }
  return 0;
}
