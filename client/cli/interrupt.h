// ScopedInterrupt: for as long as it lives, Ctrl-C (SIGINT) and SIGTERM cancel calls instead of
// ending the process.
#pragma once

#include <csignal>
#include <thread>

#include "client/client.h"

namespace sluice::cli {

// At most one exists at a time. The first signal cancels; a second one ends the process, as if this
// were not here.
class ScopedInterrupt {
 public:
  // `cancellation` must outlive this.
  explicit ScopedInterrupt(client::Cancellation& cancellation);
  ~ScopedInterrupt();
  ScopedInterrupt(const ScopedInterrupt&) = delete;
  ScopedInterrupt& operator=(const ScopedInterrupt&) = delete;

 private:
  // The handler writes into this pipe and the thread reads from it: cancelling a call takes locks,
  // which a signal handler must not.
  int pipe_[2];
  struct sigaction old_interrupt_;
  struct sigaction old_terminate_;
  std::thread thread_;
};

}  // namespace sluice::cli
