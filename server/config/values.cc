#include "config/values.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <array>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/socket_path.h"
#include "base/status_macros.h"

namespace sluice::config {
namespace {

struct Unit {
  const char* name;
  int shift;  // bytes = 1 << shift
};
// Longest suffix first: every other one ends in B.
constexpr std::array<Unit, 5> kUnits = {
    {{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}}};

bool IsDigits(absl::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<int64_t> ParseInt(absl::string_view text, int64_t least, int64_t most) {
  int64_t value = 0;
  if (!IsDigits(text) || !absl::SimpleAtoi(text, &value) || value < least || value > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("must be a whole number from ", least, " to ", most));
  }
  return value;
}

absl::StatusOr<int64_t> ParseBytes(absl::string_view text, int64_t least, int64_t most) {
  int shift = 0;
  absl::string_view digits = text;
  for (const Unit& unit : kUnits) {
    if (absl::EndsWith(text, unit.name)) {
      digits.remove_suffix(absl::string_view(unit.name).size());
      shift = unit.shift;
      break;
    }
  }
  int64_t value = 0;
  if (!IsDigits(digits) || !absl::SimpleAtoi(digits, &value) || value > (most >> shift) ||
      (value << shift) < least) {
    return absl::InvalidArgumentError(absl::StrCat("must be a number of bytes from ",
                                                   FormatBytes(least), " to ", FormatBytes(most),
                                                   ", such as 1048576, 512MiB or 2GiB"));
  }
  return value << shift;
}

std::string FormatBytes(int64_t bytes) {
  for (const Unit& unit : kUnits) {
    const int64_t size = int64_t{1} << unit.shift;
    if (bytes >= size && bytes % size == 0) return absl::StrCat(bytes >> unit.shift, unit.name);
  }
  return absl::StrCat(bytes, "B");
}

absl::StatusOr<std::string> ParseAddress(absl::string_view text) {
  constexpr const char* kForm =
      "must be HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:0 or [::1]:50051";
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos || colon == 0) return absl::InvalidArgumentError(kForm);
  const absl::string_view host = text.substr(0, colon);
  const bool in_brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  const bool is_plain = host.find_first_of("[]:/ \t\r\n") == absl::string_view::npos;
  if (!(in_brackets || is_plain) || !ParseInt(text.substr(colon + 1), 0, 65535).ok()) {
    return absl::InvalidArgumentError(kForm);
  }
  return std::string(text);
}

absl::StatusOr<std::string> ParseIpAddress(absl::string_view text) {
  ASSIGN_OR_RETURN(std::string address, ParseAddress(text));
  std::string host = address.substr(0, address.rfind(':'));
  const bool in_brackets = host.front() == '[';
  if (in_brackets) host = host.substr(1, host.size() - 2);
  in6_addr parsed;
  if (host != "localhost" &&
      inet_pton(in_brackets ? AF_INET6 : AF_INET, host.c_str(), &parsed) != 1) {
    return absl::InvalidArgumentError(
        "must have an IP address or localhost before the port, such as 127.0.0.1:9090 or "
        "0.0.0.0:9090: names are not resolved here");
  }
  return address;
}

absl::StatusOr<std::string> ParseSocketPath(absl::string_view text) {
  // What fits into sockaddr_un with its end.
  constexpr size_t kMaxBytes = sizeof(sockaddr_un::sun_path) - 1;
  absl::string_view path = text;
  if (!absl::ConsumePrefix(&path, "unix:") || !absl::StartsWith(path, "/") ||
      !base::IsSocketPath(path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("must be unix:/path with an absolute path of at most ", kMaxBytes,
                     " bytes, without blanks, # ? and %"));
  }
  return std::string(text);
}

absl::StatusOr<int> ParseFileMode(absl::string_view text) {
  absl::string_view digits = text;
  if (digits.size() == 4) absl::ConsumePrefix(&digits, "0");
  if (digits.size() != 3 || digits.find_first_not_of("01234567") != absl::string_view::npos) {
    return absl::InvalidArgumentError("must be three octal digits, such as 0660");
  }
  return (digits[0] - '0') << 6 | (digits[1] - '0') << 3 | (digits[2] - '0');
}

absl::StatusOr<bool> ParseBool(absl::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return absl::InvalidArgumentError("must be true or false");
}

absl::StatusOr<WeightsFormat> ParseWeightsFormat(absl::string_view text) {
  if (text == "auto") return WeightsFormat::kAuto;
  if (text == "f32") return WeightsFormat::kF32;
  if (text == "bf16") return WeightsFormat::kBf16;
  if (text == "int8") return WeightsFormat::kInt8;
  if (text == "int4") return WeightsFormat::kInt4;
  return absl::InvalidArgumentError("must be auto, f32, bf16, int8 or int4");
}

absl::StatusOr<KvCacheDtype> ParseKvCacheDtype(absl::string_view text) {
  if (text == "auto") return KvCacheDtype::kAuto;
  if (text == "bf16") return KvCacheDtype::kBf16;
  if (text == "f32") return KvCacheDtype::kF32;
  return absl::InvalidArgumentError("must be auto, bf16 or f32");
}

absl::StatusOr<ExpertMetrics> ParseExpertMetrics(absl::string_view text) {
  if (text == "per_expert") return ExpertMetrics::kPerExpert;
  if (text == "per_layer") return ExpertMetrics::kPerLayer;
  if (text == "off") return ExpertMetrics::kOff;
  return absl::InvalidArgumentError("must be per_expert, per_layer or off");
}

}  // namespace sluice::config
