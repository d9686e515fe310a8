// The process's log: one line per event on standard error, formatted with spdlog. Nobody waits for
// whoever reads it: lines that find no room are lost, and the log says how many as soon as it has
// been read. Not for children that were forked from a process that has logged (see line_writer.h);
// the server forks none.
//
//   base::Log().info("listening grpc={} metrics={}", grpc_address, metrics_address);
#pragma once

#include <spdlog/spdlog.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace sluice::base {

// The logger; usable from any thread, and before InitLog (then at level info).
spdlog::logger& Log();

// Sets the least severe level that is written: "debug", "info", "warning" or "error".
// INVALID_ARGUMENT for any other.
absl::Status InitLog(absl::string_view level);

// Adds a line that is no event, such as why the program ends. Any thread may call it.
void LogPlainLine(std::string line);

// How long a program that ends waits for its last lines to be written.
inline constexpr absl::Duration kLogFarewellTime = absl::Seconds(1);

// Waits for all lines on standard error to be written, at most kLogFarewellTime. Programs that end
// by exit, or by main's return, do it by themselves.
void FlushLog();

}  // namespace sluice::base
