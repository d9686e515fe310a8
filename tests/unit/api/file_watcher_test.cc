#include "api/file_watcher.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>

#include "base/mutex.h"
#include "support/temp_folder.h"

namespace sluice::api {
namespace {

using testing::TempFolder;

constexpr char kAbsent[] = "(absent)";

std::string ContentsOf(const std::string& path) {
  std::ifstream file(path);
  if (!file) return kAbsent;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// What a watched file held at the last call, and how many calls there were. One change may be seen
// in two halves and called for twice.
class Seen {
 public:
  void Add(const std::string& contents) {
    base::MutexLock lock(mutex_);
    ++calls_;
    contents_ = contents;
    changed_.NotifyAll();
  }
  void Await(const std::string& contents) {
    base::MutexLock lock(mutex_);
    while (calls_ == 0 || contents_ != contents) changed_.Wait(mutex_);
  }
  void AwaitCalls(int calls) {
    base::MutexLock lock(mutex_);
    while (calls_ < calls) changed_.Wait(mutex_);
  }
  int calls() {
    base::MutexLock lock(mutex_);
    return calls_;
  }

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string contents_ ABSL_GUARDED_BY(mutex_);
};

TEST(FileWatcherTest, TellsOfEveryKindOfChange) {
  const TempFolder folder;
  const std::string path = folder.File("changes", "one");
  const std::string other = folder.File("other", "new");
  Seen seen;
  FileWatcher watcher(absl::Milliseconds(1));
  watcher.Watch({path}, [&] { seen.Add(ContentsOf(path)); });
  seen.Await("one");
  folder.File("changes", "two!");
  seen.Await("two!");
  std::filesystem::remove(path);
  seen.Await(kAbsent);
  folder.File("changes", "three");
  seen.Await("three");
  std::filesystem::rename(other, path);
  seen.Await("new");
}

TEST(FileWatcherTest, EachFileHasItsOwnFunctions) {
  const TempFolder folder;
  const std::string still = folder.File("still", "a");
  const std::string moving = folder.File("moving", "a");
  Seen of_still;
  Seen of_moving;
  FileWatcher watcher(absl::Milliseconds(1));
  watcher.Watch({still}, [&] { of_still.Add(ContentsOf(still)); });
  watcher.Watch({still, moving}, [&] { of_moving.Add(ContentsOf(moving)); });
  of_still.Await("a");
  of_moving.Await("a");
  for (const char* contents : {"aa", "aaa", "aaaa"}) {
    std::ofstream(moving, std::ios::app) << "a";
    of_moving.Await(contents);
  }
  EXPECT_EQ(of_still.calls(), 1);
}

TEST(FileWatcherTest, EndsAtOnceHoweverLongItsInterval) {
  Seen seen;
  {
    FileWatcher watcher(absl::Hours(1));
    watcher.Watch({"/no/such/file"}, [&] { seen.Add(""); });
    seen.Await("");
  }
  EXPECT_EQ(seen.calls(), 1);
}

TEST(FileWatcherTest, CallsAllFunctionsIfAskedTo) {
  Seen first;
  Seen second;
  FileWatcher watcher(absl::Hours(1));
  watcher.Watch({"/no/such/file"}, [&] { first.Add(""); });
  watcher.Watch({"/no/such/file"}, [&] { second.Add(""); });
  for (int calls = 1; calls <= 4; ++calls) {
    first.AwaitCalls(calls);
    second.AwaitCalls(calls);
    EXPECT_EQ(first.calls() + second.calls(), 2 * calls);
    if (calls < 4) watcher.CallAll();
  }
}

// A call that takes until it is released, as one may that reads from a file system far away.
class LongCall {
 public:
  void Take() {
    base::MutexLock lock(mutex_);
    has_begun_ = true;
    changed_.NotifyAll();
    while (!is_released_) changed_.Wait(mutex_);
  }
  void AwaitBegin() {
    base::MutexLock lock(mutex_);
    while (!has_begun_) changed_.Wait(mutex_);
  }
  void Release() {
    base::MutexLock lock(mutex_);
    is_released_ = true;
    changed_.NotifyAll();
  }

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  bool has_begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_released_ ABSL_GUARDED_BY(mutex_) = false;
};

TEST(FileWatcherTest, NobodyWaitsForACallThatDoesNotReturn) {
  const auto call = std::make_shared<LongCall>();
  const auto seen = std::make_shared<Seen>();
  {
    FileWatcher watcher(absl::Milliseconds(1));
    watcher.Watch({"/no/such/file"}, [call] { call->Take(); });
    call->AwaitBegin();
    watcher.Watch({"/no/such/file"}, [seen] { seen->Add(""); });
    watcher.CallAll();
  }
  call->Release();
  // The thread ends, and lets go of what it has, without another call.
  while (call.use_count() > 1 || seen.use_count() > 1) std::this_thread::yield();
  EXPECT_EQ(seen->calls(), 0);
}

}  // namespace
}  // namespace sluice::api
