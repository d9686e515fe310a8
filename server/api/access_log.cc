#include "api/access_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace sluice::api {
namespace {

constexpr absl::Duration kFarewellTime = absl::Seconds(1);

// The descriptor. Does not wait for somebody to read a pipe.
absl::StatusOr<int> OpenFile(const std::string& file) {
  const int fd = open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
  if (fd < 0) {
    // What the system calls no such device is a socket, or a pipe that nobody reads.
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot be opened: ", errno == ENXIO ? "nobody reads it" : std::strerror(errno)));
  }
  struct stat found {};
  if (fstat(fd, &found) != 0 || S_ISBLK(found.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError("is no file to which lines can be added");
  }
  // From here on a thread of its own waits.
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  return fd;
}

// Whether both are one terminal or pipe, in which lines would be cut by each other.
bool IsStderr(int fd) {
  struct stat a {};
  struct stat b {};
  return fstat(fd, &a) == 0 && fstat(STDERR_FILENO, &b) == 0 && !S_ISREG(a.st_mode) &&
         a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AccessLog>> AccessLog::Open(const Options& options) {
  if (options.file == "stderr") {
    return std::unique_ptr<AccessLog>(new AccessLog(options, nullptr));
  }
  const absl::StatusOr<int> fd = OpenFile(options.file);
  if (!fd.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--access_log=", options.file, " ", fd.status().message()));
  }
  if (IsStderr(*fd)) {
    close(*fd);
    return std::unique_ptr<AccessLog>(new AccessLog(options, nullptr));
  }
  return std::unique_ptr<AccessLog>(
      new AccessLog(options, std::make_unique<base::LineWriter>(*fd)));
}

AccessLog::AccessLog(const Options& options, std::unique_ptr<base::LineWriter> file)
    : options_(options),
      file_(std::move(file)),
      lines_(file_ == nullptr ? base::LineWriter::ForStderr() : *file_, options.max_waiting_bytes,
             [this](const base::LineWriter::Progress& progress) { OnProgress(progress); }) {}

AccessLog::~AccessLog() {
  if (file_ != nullptr) file_->Flush(kFarewellTime);
}

void AccessLog::Write(std::string line) {
  // The thread that writes says so.
  if (!lines_.Add(std::move(line))) Count();
}

void AccessLog::Reopen() {
  if (file_ == nullptr) return;
  file_->Reopen([file = options_.file] {
    const absl::StatusOr<int> fd = OpenFile(file);
    if (fd.ok()) return *fd;
    base::Log().error("access_log={} {}; the old file stays in use", file,
                      std::string(fd.status().message()));
    return -1;
  });
}

void AccessLog::OnProgress(const base::LineWriter::Progress& progress) {
  if (progress.error != 0) {
    Count();
    Complain(std::strerror(progress.error));
  } else if (progress.num_refused > 0) {
    Complain("it is too slow");
  } else if (progress.is_last) {
    is_failing_ = false;
  }
}

void AccessLog::Count() {
  if (options_.dropped_lines != nullptr) options_.dropped_lines->Increment();
}

// Once until all is well again.
void AccessLog::Complain(const char* why) {
  if (std::exchange(is_failing_, true)) return;
  base::Log().error("access_log={} loses lines: {}", options_.file, why);
}

}  // namespace sluice::api
