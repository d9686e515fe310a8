// Turning the text of a flag into a value. Errors are INVALID_ARGUMENT and say what is allowed; the
// caller adds which flag it is.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "config/server_config.h"

namespace sluice::config {

// A whole number within [least, most].
absl::StatusOr<int64_t> ParseInt(absl::string_view text, int64_t least, int64_t most);

// A number of bytes within [least, most]: digits, then B, KiB, MiB, GiB, TiB or nothing.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text, int64_t least, int64_t most);

// `bytes` with the largest unit that divides it, as ParseBytes reads it.
std::string FormatBytes(int64_t bytes);

// HOST:PORT; an IPv6 address stands in brackets.
absl::StatusOr<std::string> ParseAddress(absl::string_view text);

// HOST:PORT where HOST is an IP address or localhost: for those who resolve no names.
absl::StatusOr<std::string> ParseIpAddress(absl::string_view text);

// unix:/path, absolute, short enough for a socket, and without what is no path in a URI of gRPC.
absl::StatusOr<std::string> ParseSocketPath(absl::string_view text);

// Three octal digits, with or without a 0 before them.
absl::StatusOr<int> ParseFileMode(absl::string_view text);

// "true" or "false".
absl::StatusOr<bool> ParseBool(absl::string_view text);

// "auto", "f32", "bf16", "int8" or "int4".
absl::StatusOr<WeightsFormat> ParseWeightsFormat(absl::string_view text);

// "auto", "bf16" or "f32".
absl::StatusOr<KvCacheDtype> ParseKvCacheDtype(absl::string_view text);

// "per_expert", "per_layer" or "off".
absl::StatusOr<ExpertMetrics> ParseExpertMetrics(absl::string_view text);

}  // namespace sluice::config
