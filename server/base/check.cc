#include "base/check.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/log.h"

namespace sluice::base {

void CheckFailed(const char* file, int line, const char* expression) {
  // What was logged before may say why, and this must come out whole; but a pipe that nobody reads
  // may not keep the process from its end. A pipe that is ready takes as much as this at once.
  FlushLog();
  char text[4096];
  const int size =
      std::snprintf(text, sizeof(text), "%s:%d: CHECK failed: %s\n", file, line, expression);
  pollfd writable{.fd = STDERR_FILENO, .events = POLLOUT};
  if (poll(&writable, 1, static_cast<int>(absl::ToInt64Milliseconds(kLogFarewellTime))) > 0) {
    const auto length = static_cast<size_t>(std::clamp(size, 0, int{sizeof(text)} - 1));
    static_cast<void>(!write(STDERR_FILENO, text, length));
  }
  std::abort();
}

}  // namespace sluice::base
