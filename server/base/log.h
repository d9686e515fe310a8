// The process's log: one line per event on standard error, written with spdlog.
//
//   base::Log().info("listening grpc={} metrics={}", grpc_address, metrics_address);
#pragma once

#include <spdlog/spdlog.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace sluice::base {

// The logger; usable from any thread, and before InitLog (then at level info).
spdlog::logger& Log();

// Sets the least severe level that is written: "debug", "info", "warning" or "error".
// INVALID_ARGUMENT for any other.
absl::Status InitLog(absl::string_view level);

}  // namespace sluice::base
