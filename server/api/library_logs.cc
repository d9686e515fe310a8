#include "api/library_logs.h"

#include <google/protobuf/stubs/common.h>
#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <string>

#include "base/log.h"

namespace sluice::api {

void RedirectLibraryLogs() {
  gpr_set_log_function([](gpr_log_func_args* line) {
    base::Log().debug("grpc: {}:{}: {}", line->file, line->line, line->message);
  });
  google::protobuf::SetLogHandler(
      [](google::protobuf::LogLevel, const char* file, int line, const std::string& message) {
        base::Log().debug("protobuf: {}:{}: {}", file, line, message);
      });
}

}  // namespace sluice::api
