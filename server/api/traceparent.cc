#include "api/traceparent.h"

#include <array>
#include <cstddef>

namespace sluice::api {
namespace {

bool IsLowerHex(absl::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == absl::string_view::npos;
}

bool IsZero(absl::string_view text) {
  return text.find_first_not_of('0') == absl::string_view::npos;
}

}  // namespace

std::optional<std::string> TraceIdOf(absl::string_view traceparent) {
  constexpr size_t kSize = 55;
  if (traceparent.size() < kSize) return std::nullopt;
  const absl::string_view version = traceparent.substr(0, 2);
  const absl::string_view trace_id = traceparent.substr(3, 32);
  const absl::string_view parent_id = traceparent.substr(36, 16);
  const absl::string_view flags = traceparent.substr(53, 2);
  for (const absl::string_view field : {version, trace_id, parent_id, flags}) {
    if (!IsLowerHex(field)) return std::nullopt;
  }
  for (const size_t dash : {2, 35, 52}) {
    if (traceparent[dash] != '-') return std::nullopt;
  }
  if (version == "ff" || IsZero(trace_id) || IsZero(parent_id)) return std::nullopt;
  // Later versions may go on behind another dash.
  if (traceparent.size() > kSize && (version == "00" || traceparent[kSize] != '-')) {
    return std::nullopt;
  }
  return std::string(trace_id);
}

}  // namespace sluice::api
