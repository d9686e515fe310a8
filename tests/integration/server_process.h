// ServerProcess: the real sluice-server as a child process, on ports of its own choice.
#pragma once

#include <sys/types.h>

#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace sluice::testing {

// Used by one thread.
class ServerProcess {
 public:
  // Starts it with `flags` and with ports that are free.
  explicit ServerProcess(std::vector<std::string> flags);
  // Kills it, if it still runs.
  ~ServerProcess();

  // Waits for a line of its log that contains `text`, and returns it; empty if the log ended
  // without.
  std::string AwaitLog(const std::string& text);
  // Where it listens, from the log.
  std::string grpc_address();

  void Signal(int number);
  // Waits for its end; its exit code, or minus the signal that ended it.
  int AwaitExit();
  // All that it logged. REQUIRES: AwaitExit returned.
  std::string log();

 private:
  void ReadLog(int fd);

  pid_t pid_ = -1;
  std::thread reader_;
  base::Mutex mutex_;
  base::CondVar changed_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sluice::testing
