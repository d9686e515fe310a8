#include "base/file_watcher.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"

namespace sluice::base {
namespace {

// Counts calls, and waits for them.
class Calls {
 public:
  void Add() {
    MutexLock lock(mutex_);
    ++calls_;
    changed_.NotifyAll();
  }
  void Await(int calls) {
    MutexLock lock(mutex_);
    while (calls_ < calls) changed_.Wait(mutex_);
  }
  int calls() {
    MutexLock lock(mutex_);
    return calls_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
};

std::string NewFile(const std::string& name, const std::string& text) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/file_watcher_", name);
  std::ofstream(path) << text;
  return path;
}

TEST(FileWatcherTest, TellsOfEveryKindOfChange) {
  const std::string path = NewFile("changes", "one");
  const std::string other = NewFile("other", "new");
  Calls calls;
  FileWatcher watcher(absl::Milliseconds(1));
  watcher.Watch({path}, [&] { calls.Add(); });
  calls.Await(1);
  std::ofstream(path) << "two!";
  calls.Await(2);
  std::filesystem::remove(path);
  calls.Await(3);
  NewFile("changes", "one");
  calls.Await(4);
  std::filesystem::rename(other, path);
  calls.Await(5);
}

TEST(FileWatcherTest, EachFileHasItsOwnFunctions) {
  const std::string still = NewFile("still", "a");
  const std::string moving = NewFile("moving", "a");
  Calls of_still;
  Calls of_moving;
  FileWatcher watcher(absl::Milliseconds(1));
  watcher.Watch({still}, [&] { of_still.Add(); });
  watcher.Watch({still, moving}, [&] { of_moving.Add(); });
  of_still.Await(1);
  of_moving.Await(1);
  for (int i = 2; i < 5; ++i) {
    std::ofstream(moving, std::ios::app) << "a";
    of_moving.Await(i);
  }
  EXPECT_EQ(of_still.calls(), 1);
}

TEST(FileWatcherTest, EndsAtOnceHoweverLongItsInterval) {
  Calls calls;
  {
    FileWatcher watcher(absl::Hours(1));
    watcher.Watch({"/no/such/file"}, [&] { calls.Add(); });
    calls.Await(1);
  }
  EXPECT_EQ(calls.calls(), 1);
}

}  // namespace
}  // namespace sluice::base
