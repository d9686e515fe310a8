#include "api/access_log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/counter.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "support/temp_folder.h"

namespace sluice::api {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;
using testing::TempFolder;

std::vector<std::string> LinesOf(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::unique_ptr<AccessLog> OpenLog(const AccessLog::Options& options) {
  auto log = AccessLog::Open(options);
  EXPECT_TRUE(log.ok()) << log.status();
  return *std::move(log);
}

TEST(AccessLogTest, WritesEveryLineInOrderAndAddsToWhatIsThere) {
  const TempFolder folder;
  const std::string path = folder.Path("log");
  for (int run = 0; run < 2; ++run) {
    const auto log = OpenLog({.file = path});
    for (int i = 0; i < 500; ++i) log->Write(absl::StrCat(run, ".", i));
  }
  const std::vector<std::string> lines = LinesOf(path);
  ASSERT_EQ(lines.size(), 1000u);
  EXPECT_EQ(lines[0], "0.0");
  EXPECT_EQ(lines[499], "0.499");
  EXPECT_EQ(lines[999], "1.499");
}

TEST(AccessLogTest, WhatCannotBeAddedToIsAnErrorThatNamesTheFlag) {
  const TempFolder folder;
  const std::string fifo = folder.Path("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& file :
       {std::string("/no/such/folder/log"), folder.path(), fifo, std::string("")}) {
    const auto log = AccessLog::Open({.file = file});
    EXPECT_EQ(log.status().code(), absl::StatusCode::kInvalidArgument) << file;
    EXPECT_THAT(std::string(log.status().message()),
                StartsWith(absl::StrCat("--access_log=", file, " cannot be opened: ")));
  }
}

TEST(AccessLogTest, OnAFullDiskLinesAreCountedAndNobodyWaits) {
  prometheus::Counter dropped;
  {
    const auto log = OpenLog({.file = "/dev/full", .dropped_lines = &dropped});
    for (int i = 0; i < 100; ++i) log->Write("line");
  }
  EXPECT_EQ(dropped.Value(), 100);
}

TEST(AccessLogTest, WhatASlowFileCannotTakeIsDroppedAndCounted) {
  // A pipe that nobody reads: the writing thread hangs in it until the test reads.
  const TempFolder folder;
  const std::string path = folder.Path("fifo");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  const int reader = open(path.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  // Beyond what a pipe holds.
  constexpr size_t kLineBytes = 128 * 1024;
  constexpr int kLines = 50;
  prometheus::Counter dropped;
  int lines_read = 0;
  {
    auto log = OpenLog(
        {.file = path, .max_waiting_bytes = 4 * (kLineBytes + 64), .dropped_lines = &dropped});
    // These return, although not even the first fits into the pipe.
    for (int i = 0; i < kLines; ++i) log->Write(std::string(kLineBytes - 1, 'x'));
    EXPECT_EQ(dropped.Value(), kLines - 4);
    std::thread reading([&] {
      std::vector<char> buffer(kLineBytes);
      // Ends when the log is closed, and with it the writing end.
      fcntl(reader, F_SETFL, 0);
      for (ssize_t n; (n = read(reader, buffer.data(), buffer.size())) > 0;) {
        for (ssize_t i = 0; i < n; ++i) lines_read += buffer[static_cast<size_t>(i)] == '\n';
      }
    });
    log.reset();
    reading.join();
  }
  EXPECT_EQ(lines_read + dropped.Value(), kLines);
  close(reader);
}

TEST(AccessLogTest, OpensTheFileAnewForThoseWhoRenameIt) {
  const TempFolder folder;
  const std::string path = folder.Path("log");
  const std::string old = folder.Path("log.1");
  auto log = OpenLog({.file = path});
  log->Write("first");
  // The first line is on the file once the log is closed; rename before.
  ASSERT_EQ(std::rename(path.c_str(), old.c_str()), 0);
  log->Reopen();
  while (access(path.c_str(), F_OK) != 0) std::this_thread::yield();
  log->Write("second");
  log.reset();
  // Whether the first was written before or after the reopening is not said.
  std::vector<std::string> lines = LinesOf(old);
  for (const std::string& line : LinesOf(path)) lines.push_back(line);
  EXPECT_THAT(lines, ElementsAre("first", "second"));
  EXPECT_EQ(LinesOf(path).back(), "second");
}

// While it lives, files cannot grow beyond `bytes`: what is written there is cut.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST(AccessLogTest, ALineThatWasCutSpoilsNoOtherLineInAnyFile) {
  enum class Then { kGoesOn, kReopensTheSame, kRotates };
  for (const Then then : {Then::kGoesOn, Then::kReopensTheSame, Then::kRotates}) {
    SCOPED_TRACE(static_cast<int>(then));
    const TempFolder folder;
    const std::string path = folder.Path("log");
    const std::string old = folder.Path("log.1");
    prometheus::Counter dropped;
    auto log = OpenLog({.file = path, .dropped_lines = &dropped});
    {
      const FileSizeLimit limit(10);
      log->Write("whole");
      log->Write("this is cut");
      while (dropped.Value() < 1) std::this_thread::yield();
    }
    if (then == Then::kRotates) {
      ASSERT_EQ(std::rename(path.c_str(), old.c_str()), 0);
    }
    if (then != Then::kGoesOn) log->Reopen();
    log->Write("after");
    log.reset();
    if (then == Then::kRotates) {
      EXPECT_THAT(LinesOf(old), ElementsAre("whole", "this"));
      EXPECT_THAT(LinesOf(path), ElementsAre("after"));
    } else {
      EXPECT_THAT(LinesOf(path), ElementsAre("whole", "this", "after"));
    }
    EXPECT_EQ(dropped.Value(), 1);
  }
}

TEST(AccessLogTest, ManyThreadsWriteWholeLines) {
  const TempFolder folder;
  const std::string path = folder.Path("log");
  {
    const auto log = OpenLog({.file = path});
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&log, t] {
        for (int i = 0; i < 250; ++i) log->Write(std::string(static_cast<size_t>(t) + 10, 'a'));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const std::vector<std::string> lines = LinesOf(path);
  EXPECT_EQ(lines.size(), 1000u);
  for (const std::string& line : lines) {
    EXPECT_TRUE(line.size() >= 10 && line.size() < 14) << line.size();
  }
}

}  // namespace
}  // namespace sluice::api
