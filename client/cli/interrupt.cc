#include "cli/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "base/check.h"

namespace sluice::cli {
namespace {

constexpr char kCancel = 'c';
constexpr char kEnd = 'e';

// Where the handler writes to; -1 while there is no ScopedInterrupt.
std::atomic<int> handler_fd{-1};
static_assert(std::atomic<int>::is_always_lock_free);

void WriteByte(int fd, char byte) {
  while (write(fd, &byte, 1) < 0 && errno == EINTR) {
  }
}

void Handle(int) {
  const int saved_errno = errno;
  WriteByte(handler_fd.load(), kCancel);
  errno = saved_errno;
}

}  // namespace

ScopedInterrupt::ScopedInterrupt(client::Cancellation& cancellation) {
  CHECK(pipe2(pipe_, O_CLOEXEC) == 0);
  CHECK(handler_fd.exchange(pipe_[1]) == -1);
  thread_ = std::thread([fd = pipe_[0], &cancellation] {
    char byte = 0;
    while (byte != kEnd) {
      const ssize_t count = read(fd, &byte, 1);
      if (count < 0 && errno == EINTR) continue;
      CHECK(count == 1);
      if (byte == kCancel) cancellation.Cancel();
    }
  });
  struct sigaction action = {};
  action.sa_handler = Handle;
  action.sa_flags = SA_RESTART | SA_RESETHAND;
  CHECK(sigaction(SIGINT, &action, &old_interrupt_) == 0);
  CHECK(sigaction(SIGTERM, &action, &old_terminate_) == 0);
}

ScopedInterrupt::~ScopedInterrupt() {
  CHECK(sigaction(SIGINT, &old_interrupt_, nullptr) == 0);
  CHECK(sigaction(SIGTERM, &old_terminate_, nullptr) == 0);
  WriteByte(pipe_[1], kEnd);
  thread_.join();
  handler_fd = -1;
  close(pipe_[0]);
  close(pipe_[1]);
}

}  // namespace sluice::cli
