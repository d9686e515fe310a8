#include "base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/check.h"

namespace sluice::base {
namespace {

// Standard error is a pipe that holds little, until this goes.
class StderrIsAPipe {
 public:
  StderrIsAPipe() : stderr_(dup(STDERR_FILENO)) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    EXPECT_GT(fcntl(ends[1], F_SETPIPE_SZ, 4096), 0);
    EXPECT_EQ(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    reader_ = fdopen(ends[0], "r");
  }
  ~StderrIsAPipe() {
    FlushLog();
    dup2(stderr_, STDERR_FILENO);
    close(stderr_);
    std::fclose(reader_);
  }

  // With its end of line.
  std::string ReadLine() {
    char* line = nullptr;
    size_t capacity = 0;
    const ssize_t size = getline(&line, &capacity, reader_);
    std::string text(line, size > 0 ? static_cast<size_t>(size) : 0);
    std::free(line);
    return text;
  }
  void Fill() {
    fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK);
    while (write(STDERR_FILENO, "x", 1) == 1) {
    }
    fcntl(STDERR_FILENO, F_SETFL, 0);
  }

 private:
  const int stderr_;
  FILE* reader_;
};

TEST(LogTest, NobodyWaitsForWhoeverReadsItAndWhatIsLostIsCounted) {
  StderrIsAPipe pipe;
  constexpr int kLines = 5000;
  const std::string text(1000, 'x');
  // These return, although hardly anything fits into the pipe.
  for (int i = 0; i < kLines; ++i) Log().info("{}", text);
  int num_read = 0;
  std::string line;
  while ((line = pipe.ReadLine()).find("lines of the log are lost") == std::string::npos) {
    EXPECT_NE(line.find("info " + text + "\n"), std::string::npos) << line;
    ++num_read;
  }
  EXPECT_GT(num_read, 900);
  const size_t number = line.find("error ");
  ASSERT_NE(number, std::string::npos) << line;
  EXPECT_EQ(std::atoi(&line[number + 6]), kLines - num_read);
  // Once.
  LogPlainLine("plain");
  EXPECT_EQ(pipe.ReadLine(), "plain\n");
}

TEST(LogTest, OnlyTheLevelsThatAreWantedAreWritten) {
  StderrIsAPipe pipe;
  ASSERT_TRUE(InitLog("error").ok());
  Log().warn("not this");
  Log().error("but this");
  EXPECT_NE(pipe.ReadLine().find(" error but this\n"), std::string::npos);
  ASSERT_TRUE(InitLog("info").ok());
  EXPECT_EQ(InitLog("loud").code(), absl::StatusCode::kInvalidArgument);
}

TEST(LogDeathTest, AFailedCheckIsSaidBehindWhatWasLogged) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Log().info("the last words");
        CHECK(1 + 1 == 3);
      },
      "the last words\n.*log_test.cc:[0-9]+: CHECK failed: 1 \\+ 1 == 3");
}

TEST(LogDeathTest, AFailedCheckEndsTheProcessAlsoIfNobodyReads) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        StderrIsAPipe pipe;
        pipe.Fill();
        Log().info("nobody reads this");
        CHECK(1 + 1 == 3);
      },
      ::testing::KilledBySignal(SIGABRT), "");
}

}  // namespace
}  // namespace sluice::base
