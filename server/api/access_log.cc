#include "api/access_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace sluice::api {
namespace {

constexpr absl::Duration kFarewellTime = absl::Seconds(2);

// -1 if it cannot be opened.
int OpenFile(const std::string& file) {
  if (file == "stderr") return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
  return open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

}  // namespace

// What is shared between those who write lines and the thread that writes the file.
class AccessLog::Writer {
 public:
  Writer(const Options& options, int fd) : options_(options), fd_(fd) {}
  ~Writer() {
    if (fd_ >= 0) close(fd_);
  }

  void Add(std::string line) {
    line += '\n';
    std::lock_guard<std::mutex> lock(mutex_);
    if (waiting_.size() + line.size() > options_.max_waiting_bytes) {
      // The thread that writes says so: the log that it says it in may be as slow.
      Count(1);
      has_overflown_ = true;
    } else {
      waiting_ += line;
      ++num_waiting_;
    }
    changed_.notify_all();
  }

  void Reopen() {
    std::lock_guard<std::mutex> lock(mutex_);
    reopen_ = true;
    changed_.notify_all();
  }

  // Returns when all is written, or after `timeout`.
  void Stop(absl::Duration timeout) {
    std::unique_lock<std::mutex> lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    changed_.wait_for(lock, absl::ToChronoMilliseconds(timeout), [this] { return stopped_; });
    // What is counted may be gone soon.
    options_.dropped_lines = nullptr;
  }

  void Loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopping_ || reopen_ || num_waiting_ > 0; });
      const bool reopen = std::exchange(reopen_, false);
      const std::string text = std::exchange(waiting_, "");
      const size_t num_lines = std::exchange(num_waiting_, 0);
      if (text.empty() && !reopen) break;
      lock.unlock();
      if (reopen) OpenAnew();
      errno = 0;
      const size_t num_written = WriteOut(text);
      const int error = errno;
      lock.lock();
      const bool has_overflown = std::exchange(has_overflown_, false);
      Count(num_lines - num_written);
      lock.unlock();
      if (num_written < num_lines) {
        Complain(std::strerror(error));
      } else if (has_overflown) {
        Complain("it is too slow");
      } else if (num_lines > 0) {
        is_failing_ = false;
      }
      lock.lock();
    }
    stopped_ = true;
    changed_.notify_all();
  }

 private:
  void OpenAnew() {
    const int fd = OpenFile(options_.file);
    if (fd < 0) {
      base::Log().error("access_log={} cannot be opened anew, the old file stays in use: {}",
                        options_.file, std::strerror(errno));
      return;
    }
    close(fd_);
    fd_ = fd;
  }

  // Writes as much as is possible, and returns how many whole lines that was; if not all, errno
  // says why.
  size_t WriteOut(const std::string& text) {
    size_t num_lines = 0;
    size_t at = 0;
    while (at < text.size()) {
      // A line at a time: what fails is then a line, and the others have their chance.
      const size_t end = text.find('\n', at) + 1;
      // The rest of a line that was cut would join the next one.
      if (is_cut_ && write(fd_, "\n", 1) != 1) return num_lines;
      is_cut_ = false;
      while (at < end) {
        const ssize_t n = write(fd_, &text[at], end - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
          is_cut_ = at > 0 && text[at - 1] != '\n';
          return num_lines;
        }
        at += static_cast<size_t>(n);
      }
      ++num_lines;
    }
    return num_lines;
  }

  // Once until all is well again.
  void Complain(const char* why) {
    if (std::exchange(is_failing_, true)) return;
    base::Log().error("access_log={} loses lines: {}", options_.file, why);
  }

  // Counts lines that are lost. REQUIRES: the lock is held.
  void Count(size_t num_lines) {
    if (options_.dropped_lines != nullptr && num_lines > 0) {
      options_.dropped_lines->Increment(static_cast<double>(num_lines));
    }
  }

  Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Lines, each with its end.
  std::string waiting_;
  size_t num_waiting_ = 0;
  bool reopen_ = false;
  bool stopping_ = false;
  bool stopped_ = false;
  // Lines had to be dropped before they waited.
  bool has_overflown_ = false;
  // Only the thread that writes uses these. Lines were lost, and that was logged, since the last
  // time that all was well.
  bool is_failing_ = false;
  int fd_;
  // The file ends in the middle of a line.
  bool is_cut_ = false;
};

absl::StatusOr<std::unique_ptr<AccessLog>> AccessLog::Open(const Options& options) {
  const int fd = OpenFile(options.file);
  if (fd < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--access_log=", options.file, " cannot be opened: ", std::strerror(errno)));
  }
  return std::unique_ptr<AccessLog>(
      new AccessLog(std::make_shared<Writer>(options, fd), options.log_prompts));
}

AccessLog::AccessLog(std::shared_ptr<Writer> writer, bool log_prompts)
    : writer_(std::move(writer)), log_prompts_(log_prompts) {
  std::thread([writer = writer_] { writer->Loop(); }).detach();
}

AccessLog::~AccessLog() { writer_->Stop(kFarewellTime); }

void AccessLog::Write(std::string line) { writer_->Add(std::move(line)); }

void AccessLog::Reopen() { writer_->Reopen(); }

}  // namespace sluice::api
