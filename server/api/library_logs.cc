#include "api/library_logs.h"

#include <google/protobuf/stubs/common.h>
#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <string>

#include "absl/strings/match.h"
#include "base/log.h"

namespace sluice::api {

void RedirectLibraryLogs() {
  gpr_set_log_function([](gpr_log_func_args* line) {
    const auto level =
        line->severity == GPR_LOG_SEVERITY_ERROR ? spdlog::level::warn : spdlog::level::debug;
    base::Log().log(level, "grpc: {}:{}: {}", line->file, line->line, line->message);
    // It aborts as soon as this is said.
    if (absl::StartsWith(line->message, "assertion failed")) base::FlushLog();
  });
  // Its errors are about messages of clients, who are told; a fatal one ends the process.
  google::protobuf::SetLogHandler([](google::protobuf::LogLevel severity, const char* file,
                                     int line, const std::string& message) {
    const auto level =
        severity == google::protobuf::LOGLEVEL_FATAL ? spdlog::level::err : spdlog::level::debug;
    base::Log().log(level, "protobuf: {}:{}: {}", file, line, message);
    if (severity == google::protobuf::LOGLEVEL_FATAL) base::FlushLog();
  });
}

}  // namespace sluice::api
