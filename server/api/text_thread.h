// TextThread: where long requests are parsed and tokenized, so that a megabyte of text does not
// hold up gRPC's threads, which serve everyone's streams and health checks.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>

#include "base/mutex.h"

namespace sluice::api {

// Requests up to this size are parsed where they arrive: that takes a few milliseconds at most.
inline constexpr size_t kMaxInlineBytes = 16 * 1024;

// Thread-safe.
class TextThread {
 public:
  // `max_waiting`: functions that wait for the thread at most.
  explicit TextThread(size_t max_waiting);
  // Runs what still waits.
  ~TextThread();

  // Runs `function` soon, in order; false, at once, if too many wait already (see TextThreadFull).
  bool Run(std::function<void()> function);

 private:
  void Loop();

  const size_t max_waiting_;
  base::Mutex mutex_;
  base::CondVar changed_;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace sluice::api
