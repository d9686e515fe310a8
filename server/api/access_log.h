// AccessLog: takes a line for every call and writes it when it can. A disk that is full, slow or
// gone costs lines, never a call: whoever writes here does not wait.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "metrics/request_metrics.h"

namespace sluice::api {

// Thread-safe.
class AccessLog {
 public:
  struct Options {
    // A file, which is added to, or "stderr".
    std::string file = "stderr";
    // Whether lines may hold prompts and answers; nothing is done about it here.
    bool log_prompts = false;
    // Bytes of lines that wait to be written; further lines are dropped.
    size_t max_waiting_bytes = 8 << 20;
    // Counts the lines that were dropped; must outlive this.
    prometheus::Counter* dropped_lines = nullptr;
  };

  // INVALID_ARGUMENT, naming the flag, if the file cannot be opened.
  static absl::StatusOr<std::unique_ptr<AccessLog>> Open(const Options& options);
  // Waits until what was written is on the file, at most two seconds: then the rest is lost.
  ~AccessLog();

  // `line` has no end of line.
  void Write(std::string line);
  // Opens the file anew, under the same name: for those who have renamed it.
  void Reopen();
  bool log_prompts() const { return log_prompts_; }

 private:
  class Writer;

  AccessLog(std::shared_ptr<Writer> writer, bool log_prompts);

  // Shared with the thread that writes, which may hang in the file system for ever.
  const std::shared_ptr<Writer> writer_;
  const bool log_prompts_;
};

}  // namespace sluice::api
