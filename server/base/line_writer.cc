#include "base/line_writer.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace sluice::base {
namespace {

// What a line that waits takes besides its text.
constexpr size_t kLineOverhead = 64;

bool AreSameFile(int a, int b) {
  struct stat a_is {};
  struct stat b_is {};
  return fstat(a, &a_is) == 0 && fstat(b, &b_is) == 0 && a_is.st_dev == b_is.st_dev &&
         a_is.st_ino == b_is.st_ino;
}

}  // namespace

struct LineWriter::SourceState {
  const size_t max_waiting_bytes;
  // Of the lines that wait, and of the one that is being written; these are the writer's to lock.
  size_t waiting_bytes = 0;
  size_t num_waiting = 0;
  size_t num_refused = 0;
  // Held while on_progress is called. The writer's lock may be taken under this one, not the other
  // way round.
  std::mutex mutex;
  OnProgress on_progress;
};

class LineWriter::Writer {
 public:
  explicit Writer(int fd) : fd_(fd) {}
  ~Writer() { close(fd_); }

  bool Add(const std::shared_ptr<SourceState>& source, std::string line) {
    line += '\n';
    const size_t bytes = line.size() + kLineOverhead;
    std::lock_guard<std::mutex> lock(mutex_);
    if (bytes > source->max_waiting_bytes - source->waiting_bytes) {
      ++source->num_refused;
      return false;
    }
    source->waiting_bytes += bytes;
    ++source->num_waiting;
    waiting_.push_back({std::move(line), source});
    changed_.notify_all();
    return true;
  }

  void Reopen(std::function<int()> open) {
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = std::move(open);
    changed_.notify_all();
  }

  bool Flush(absl::Duration timeout) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                             [this] { return waiting_.empty() && !is_busy_; });
  }

  void Stop() {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }

  void Loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopping_ || open_ != nullptr || !waiting_.empty(); });
      if (open_ == nullptr && waiting_.empty()) return;
      is_busy_ = true;
      if (open_ != nullptr) {
        const std::function<int()> open = std::exchange(open_, nullptr);
        lock.unlock();
        GoOnWith(open());
        lock.lock();
      } else {
        const Line line = std::move(waiting_.front());
        waiting_.pop_front();
        lock.unlock();
        Progress progress{.error = WriteLine(line.text)};
        lock.lock();
        line.source->waiting_bytes -= line.text.size() + kLineOverhead;
        progress.num_refused = std::exchange(line.source->num_refused, 0);
        progress.is_last = --line.source->num_waiting == 0;
        lock.unlock();
        Tell(*line.source, progress);
        lock.lock();
      }
      is_busy_ = false;
      changed_.notify_all();
    }
  }

 private:
  struct Line {
    std::string text;
    std::shared_ptr<SourceState> source;
  };

  static void Tell(SourceState& source, const Progress& progress) {
    std::lock_guard<std::mutex> lock(source.mutex);
    if (source.on_progress != nullptr) source.on_progress(progress);
  }

  void GoOnWith(int fd) {
    if (fd < 0) return;
    // The same file, if it was not renamed.
    if (!AreSameFile(fd_, fd)) is_cut_ = false;
    close(fd_);
    fd_ = fd;
  }

  // 0, or the errno that says why not all of it could be written.
  int WriteLine(const std::string& line) {
    // The rest of a line that was cut would join this one.
    if (is_cut_) {
      if (const int error = WriteOut("\n"); error != 0) return error;
      is_cut_ = false;
    }
    return WriteOut(line);
  }

  int WriteOut(const std::string& text) {
    for (size_t at = 0; at < text.size();) {
      const ssize_t n = write(fd_, &text[at], text.size() - at);
      if (n > 0) {
        at += static_cast<size_t>(n);
      } else if (n < 0 && errno == EAGAIN) {
        // Whoever shares it has it not block.
        pollfd writable{.fd = fd_, .events = POLLOUT};
        poll(&writable, 1, -1);
      } else if (n == 0 || errno != EINTR) {
        is_cut_ = is_cut_ || at > 0;
        return n == 0 ? EIO : errno;
      }
    }
    return 0;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Line> waiting_;
  std::function<int()> open_;
  // A line is being written or its source told, or a file opened.
  bool is_busy_ = false;
  bool stopping_ = false;
  // Only the thread uses these.
  int fd_;
  // The file ends in the middle of a line.
  bool is_cut_ = false;
};

LineWriter::Source::Source(LineWriter& writer, size_t max_waiting_bytes, OnProgress on_progress)
    : writer_(writer.writer_), state_(new SourceState{.max_waiting_bytes = max_waiting_bytes}) {
  state_->on_progress = std::move(on_progress);
}

LineWriter::Source::~Source() {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->on_progress = nullptr;
}

bool LineWriter::Source::Add(std::string line) { return writer_->Add(state_, std::move(line)); }

LineWriter::LineWriter(int fd) : writer_(std::make_shared<Writer>(fd)) {
  std::thread([writer = writer_] { writer->Loop(); }).detach();
}

LineWriter::~LineWriter() { writer_->Stop(); }

LineWriter& LineWriter::ForStderr() {
  // Not destroyed: its thread may be at work until the process is gone.
  static LineWriter& writer = *new LineWriter(STDERR_FILENO);
  return writer;
}

bool LineWriter::Flush(absl::Duration timeout) { return writer_->Flush(timeout); }

void LineWriter::Reopen(std::function<int()> open) { writer_->Reopen(std::move(open)); }

}  // namespace sluice::base
