#include "api/file_watcher.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

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

}  // namespace
}  // namespace sluice::api
