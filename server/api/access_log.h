// AccessLog: takes a line for every call and writes it when it can. A disk that is full, slow or
// gone costs lines, never a call: whoever writes here does not wait.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/line_writer.h"
#include "metrics/request_metrics.h"

namespace sluice::api {

// Thread-safe.
class AccessLog {
 public:
  struct Options {
    // "stderr", or a file, which is added to. Devices and pipes that somebody reads will do, too,
    // such as /dev/stdout.
    std::string file = "stderr";
    // Whether lines may hold prompts and answers; nothing is done about it here.
    bool log_prompts = false;
    // Bytes of lines that wait to be written; further lines are dropped.
    size_t max_waiting_bytes = 8 << 20;
    // Counts the lines that were dropped; must outlive this.
    prometheus::Counter* dropped_lines = nullptr;
  };

  // INVALID_ARGUMENT, naming the flag, if the file cannot be opened or is of another kind; a pipe
  // is not waited for.
  static absl::StatusOr<std::unique_ptr<AccessLog>> Open(const Options& options);
  // Waits until what was written is on the file, at most a second: then the rest is lost. What goes
  // to standard error is waited for when the process ends (see base::FlushLog).
  ~AccessLog();

  // `line` has no end of line.
  void Write(std::string line);
  // Opens the file anew, under the same name: for those who have renamed it. Each line is in one of
  // them as a whole.
  void Reopen();
  bool log_prompts() const { return options_.log_prompts; }

 private:
  // `file`: null for standard error.
  AccessLog(const Options& options, std::unique_ptr<base::LineWriter> file);

  void OnProgress(const base::LineWriter::Progress& progress);
  void Count();
  void Complain(const char* why);

  const Options options_;
  // Null: standard error.
  const std::unique_ptr<base::LineWriter> file_;
  // Lines were lost, and that was logged, since the last time that all was well. Only the thread
  // that writes uses it.
  bool is_failing_ = false;
  // Last, so that it calls OnProgress no longer than there is all the rest.
  base::LineWriter::Source lines_;
};

}  // namespace sluice::api
