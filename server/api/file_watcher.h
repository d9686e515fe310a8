// FileWatcher: notices that files changed or were replaced, and says so, on a thread of its own, as
// a file system may be slow, or never answer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace sluice::api {

// Thread-safe. Nobody waits for the file system but its thread.
class FileWatcher {
 public:
  // Looks at the files every `interval`.
  explicit FileWatcher(absl::Duration interval);
  // No call begins afterwards. Waits for one that is under way, at most a second: then the thread
  // goes on by itself.
  ~FileWatcher();
  FileWatcher(const FileWatcher&) = delete;
  FileWatcher& operator=(const FileWatcher&) = delete;

  // Has `on_change` called, on the watcher's thread, soon after one of `files` became another file,
  // changed its size or was written to, appeared or vanished. It is called once soon after this,
  // too, so that no change is missed between reading the files and watching them. Calls to all
  // functions come one after another. `on_change` must keep alive what it uses, as it may outlive
  // the watcher.
  void Watch(std::vector<std::string> files, std::function<void()> on_change);

  // Has all functions called soon, whether files changed or not.
  void CallAll();

 private:
  class Loop;

  // Shared with the thread, which may hang in the file system for ever.
  const std::shared_ptr<Loop> loop_;
};

}  // namespace sluice::api
