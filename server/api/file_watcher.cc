#include "api/file_watcher.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::api {
namespace {

// Differs if the files do, as far as the file system tells without reading them.
std::string StampOf(const std::vector<std::string>& files) {
  std::string stamp;
  for (const std::string& file : files) {
    struct stat found {};
    if (stat(file.c_str(), &found) != 0) {
      absl::StrAppend(&stamp, "absent;");
      continue;
    }
    // The change time also tells of a rename onto the name and of a clock that was set back.
    absl::StrAppend(&stamp, found.st_dev, ",", found.st_ino, ",", found.st_size, ",",
                    found.st_mtim.tv_sec, ".", found.st_mtim.tv_nsec, ",", found.st_ctim.tv_sec,
                    ".", found.st_ctim.tv_nsec, ";");
  }
  return stamp;
}

}  // namespace

FileWatcher::FileWatcher(absl::Duration interval)
    : interval_(interval), thread_([this] { Loop(); }) {}

FileWatcher::~FileWatcher() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void FileWatcher::Watch(std::vector<std::string> files, std::function<void()> on_change) {
  std::lock_guard<std::mutex> lock(mutex_);
  watched_.push_back({std::move(files), std::move(on_change), ""});
  changed_.notify_all();
}

void FileWatcher::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    for (size_t i = 0; i < watched_.size() && !stopping_; ++i) {
      // Copies, since neither the file system nor the function is called under the lock.
      const std::vector<std::string> files = watched_[i].files;
      const std::function<void()> on_change = watched_[i].on_change;
      lock.unlock();
      const std::string stamp = StampOf(files);
      lock.lock();
      if (stamp == watched_[i].stamp) continue;
      watched_[i].stamp = stamp;
      lock.unlock();
      on_change();
      lock.lock();
    }
    const size_t num_watched = watched_.size();
    changed_.wait_for(lock, absl::ToChronoNanoseconds(interval_),
                      [&] { return stopping_ || watched_.size() != num_watched; });
  }
}

}  // namespace sluice::api
