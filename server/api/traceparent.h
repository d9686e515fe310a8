// The `traceparent` that callers send to say which trace a call belongs to (W3C Trace Context,
// level 1, https://www.w3.org/TR/trace-context/):
//
//   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//   version, trace id, id of the caller's span, flags
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace sluice::api {

// The trace id, 32 lower-case hexadecimal digits; absent if the text is not as the standard says,
// which also means to ignore it. Of versions to come, what version 00 has is read.
std::optional<std::string> TraceIdOf(absl::string_view traceparent);

}  // namespace sluice::api
