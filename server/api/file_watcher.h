// FileWatcher: notices that files changed or were replaced, and says so.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"

namespace sluice::api {

// Thread-safe.
class FileWatcher {
 public:
  // Looks at the files every `interval`, on a thread of its own.
  explicit FileWatcher(absl::Duration interval);
  // Waits for a call that is under way; none comes afterwards.
  ~FileWatcher();

  // Has `on_change` called, on the watcher's thread, soon after one of `files` became another file,
  // changed its size or was written to, appeared or vanished. It is called once soon after this,
  // too, so that no change is missed between reading the files and watching them. Calls to all
  // functions come one after another.
  void Watch(std::vector<std::string> files, std::function<void()> on_change);

 private:
  struct Watched {
    std::vector<std::string> files;
    std::function<void()> on_change;
    // What the files looked like at the last call; empty before the first.
    std::string stamp;
  };

  void Loop();

  const absl::Duration interval_;
  // base::CondVar has no wait with a time limit.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Watched> watched_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice::api
