// LineWriter: takes lines and writes them to a file when it can, on a thread of its own. A disk
// that is full, a file system that is slow and a pipe that nobody reads cost lines, and never the
// time of whoever writes here.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"

namespace sluice::base {

// Thread-safe. A process that forks has the thread, and maybe a lock that is held, in the parent
// only: a child that goes on without exec may call nothing here.
class LineWriter {
 private:
  class Writer;
  struct SourceState;

 public:
  // How a line fared that had room to wait.
  struct Progress {
    // 0: it is written. Otherwise it is lost, and this errno says why.
    int error = 0;
    // Lines of the same source that found no room since the last call.
    size_t num_refused = 0;
    // No more of the same source wait.
    bool is_last = false;
  };
  // Called on the writer's thread after each line; may not close the source.
  using OnProgress = std::function<void(const Progress&)>;

  // One kind of lines of those that a file takes, with room of its own. Thread-safe.
  class Source {
   public:
    // `max_waiting_bytes`: what waits to be written, with 64 bytes for each line besides its text.
    // `writer` is needed no longer than this call takes: what was added is written all the same.
    Source(LineWriter& writer, size_t max_waiting_bytes, OnProgress on_progress);
    // Afterwards `on_progress` is not called any more.
    ~Source();
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;

    // Adds `line`, which has no end of line. False if there is no room: then it is lost.
    bool Add(std::string line);

   private:
    const std::shared_ptr<Writer> writer_;
    const std::shared_ptr<SourceState> state_;
  };

  // Takes `fd` over.
  explicit LineWriter(int fd);
  // What waits is written, but not waited for.
  ~LineWriter();
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  // For all who write to standard error, so that none cuts another's line. Never ends.
  static LineWriter& ForStderr();

  // Waits until nothing waits any more; false if it still does after `timeout`.
  bool Flush(absl::Duration timeout);

  // Goes on with another file, from a new line on: soon calls `open`, on the writer's thread, for
  // its descriptor; -1 if the old one is to stay.
  void Reopen(std::function<int()> open);

 private:
  // Shared with the thread, which may hang in the file system for ever.
  const std::shared_ptr<Writer> writer_;
};

}  // namespace sluice::base
