#include "api/file_watcher.h"

#include <sys/stat.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::api {
namespace {

// How long the end waits for a call that is under way.
constexpr absl::Duration kFarewellTime = absl::Seconds(1);

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

class FileWatcher::Loop {
 public:
  explicit Loop(absl::Duration interval) : interval_(interval) {}

  void Add(std::vector<std::string> files, std::function<void()> on_change) {
    std::lock_guard<std::mutex> lock(mutex_);
    watched_.push_back({std::move(files), std::move(on_change), ""});
    is_due_ = true;
    changed_.notify_all();
  }

  void CallAll() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (Watched& watched : watched_) watched.stamp.clear();
    is_due_ = true;
    changed_.notify_all();
  }

  void Stop() {
    std::unique_lock<std::mutex> lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    changed_.wait_for(lock, absl::ToChronoNanoseconds(kFarewellTime), [this] { return ended_; });
  }

  void Run() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stopping_) {
      is_due_ = false;
      for (size_t i = 0; i < watched_.size() && !stopping_; ++i) Look(i, lock);
      changed_.wait_for(lock, absl::ToChronoNanoseconds(interval_),
                        [this] { return stopping_ || is_due_; });
    }
    // What the functions keep alive ends where the watcher does, unless a call did not.
    watched_.clear();
    ended_ = true;
    changed_.notify_all();
  }

 private:
  struct Watched {
    std::vector<std::string> files;
    std::function<void()> on_change;
    // What the files looked like at the last call; empty before the first, and if one is wanted.
    std::string stamp;
  };

  // `lock` is held, but not while the file system or the function is called.
  void Look(size_t i, std::unique_lock<std::mutex>& lock) {
    const std::vector<std::string> files = watched_[i].files;
    const std::function<void()> on_change = watched_[i].on_change;
    lock.unlock();
    const std::string stamp = StampOf(files);
    lock.lock();
    if (stopping_ || stamp == watched_[i].stamp) return;
    watched_[i].stamp = stamp;
    lock.unlock();
    on_change();
    lock.lock();
  }

  const absl::Duration interval_;
  // base::CondVar has no wait with a time limit.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Watched> watched_;
  // Somebody wants the files to be looked at before the interval is over.
  bool is_due_ = false;
  bool stopping_ = false;
  bool ended_ = false;
};

FileWatcher::FileWatcher(absl::Duration interval) : loop_(std::make_shared<Loop>(interval)) {
  std::thread([loop = loop_] { loop->Run(); }).detach();
}

FileWatcher::~FileWatcher() { loop_->Stop(); }

void FileWatcher::Watch(std::vector<std::string> files, std::function<void()> on_change) {
  loop_->Add(std::move(files), std::move(on_change));
}

void FileWatcher::CallAll() { loop_->CallAll(); }

}  // namespace sluice::api
