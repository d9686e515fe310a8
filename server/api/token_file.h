// The file that says who may call. It holds no tokens, only their hashes:
//
//   # name   SHA-256 of the token, in hex                      limits, each optional
//   alice    5e884898da28047151d0e56f8dc62927...a11ef721d1542d8  requests_per_second=2.5
//   concurrent=4 probes   8d969eef6ecad3c29a3a629280e686cf...0c3f5d5a86aff3c
//
// Such a hash is what `printf %s TOKEN | sha256sum` prints.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::api {

using TokenHash = std::array<uint8_t, 32>;

// SHA-256.
TokenHash HashToken(absl::string_view token);

struct TokenRule {
  // 1 to 64 letters, digits, dots, dashes and underscores; unique. Not secret: it is logged.
  std::string name;
  TokenHash hash;
  // Calls that may begin in a second; bursts of one second's worth, or of one call, are allowed.
  std::optional<double> requests_per_second;
  // Calls that may be open at the same time.
  std::optional<int> concurrent;
};

inline constexpr size_t kMaxTokens = 1000;

// Empty lines, and lines that begin with #, mean nothing. INVALID_ARGUMENT, naming the line by its
// number, for what is not of the form above, and if there is no token or more than kMaxTokens.
absl::StatusOr<std::vector<TokenRule>> ParseTokenFile(absl::string_view text);

}  // namespace sluice::api
