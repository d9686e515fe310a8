#include "base/socket_path.h"

#include <sys/un.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace sluice::base {
namespace {

bool MeansSomethingInUri(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return absl::ascii_isspace(byte) || absl::ascii_iscntrl(byte) || c == '#' || c == '?' || c == '%';
}

}  // namespace

bool IsSocketPath(absl::string_view path) {
  return !path.empty() && path.size() < sizeof(sockaddr_un::sun_path) &&
         !absl::StartsWith(path, "//") && !absl::EndsWith(path, "/") &&
         std::none_of(path.begin(), path.end(), MeansSomethingInUri);
}

}  // namespace sluice::base
