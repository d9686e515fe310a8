#include "base/line_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace sluice::base {
namespace {

// A pipe that holds little, for a writer to fill.
class SmallPipe {
 public:
  explicit SmallPipe(int flags = 0) {
    EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0);
    EXPECT_GT(fcntl(ends_[1], F_SETPIPE_SZ, 4096), 0);
    fcntl(ends_[1], F_SETFL, fcntl(ends_[1], F_GETFL) | flags);
  }
  ~SmallPipe() { close(ends_[0]); }

  // Is the writer's to close.
  int writing_end() const { return ends_[1]; }
  // The next line that is in it.
  std::string ReadLine() {
    std::string line;
    for (char c; read(ends_[0], &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }

 private:
  int ends_[2];
};

// What a source hears. Thread-safe.
class Heard {
 public:
  LineWriter::OnProgress Listener() {
    return [this](const LineWriter::Progress& progress) {
      MutexLock lock(mutex_);
      ++num_lines_;
      num_refused_ += progress.num_refused;
      if (progress.error != 0) ++errors_[progress.error];
      if (progress.is_last) ++num_last_;
    };
  }
  size_t num_lines() {
    MutexLock lock(mutex_);
    return num_lines_;
  }
  size_t num_refused() {
    MutexLock lock(mutex_);
    return num_refused_;
  }
  size_t num_last() {
    MutexLock lock(mutex_);
    return num_last_;
  }
  std::map<int, size_t> errors() {
    MutexLock lock(mutex_);
    return errors_;
  }

 private:
  Mutex mutex_;
  size_t num_lines_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t num_refused_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t num_last_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int, size_t> errors_ ABSL_GUARDED_BY(mutex_);
};

constexpr absl::Duration kLong = absl::Hours(1);

TEST(LineWriterTest, WhatAPipeThatNobodyReadsCannotTakeIsRefusedAndTold) {
  SmallPipe pipe;
  LineWriter writer(pipe.writing_end());
  Heard heard;
  constexpr size_t kRoom = 10'000;
  LineWriter::Source source(writer, kRoom, heard.Listener());
  size_t num_added = 0;
  size_t num_refused = 0;
  for (int i = 0; i < 1000; ++i) ++(source.Add(std::string(99, 'x')) ? num_added : num_refused);
  // A line takes 164 bytes; what is in the pipe waits no longer.
  EXPECT_GE(num_added, kRoom / 164);
  EXPECT_LE(num_added, kRoom / 164 + 4096 / 100);
  EXPECT_FALSE(writer.Flush(absl::ZeroDuration()));
  // Room is each source's own.
  Heard other_heard;
  LineWriter::Source other(writer, kRoom, other_heard.Listener());
  EXPECT_TRUE(other.Add("other"));
  for (size_t i = 0; i < num_added; ++i) ASSERT_EQ(pipe.ReadLine(), std::string(99, 'x')) << i;
  EXPECT_EQ(pipe.ReadLine(), "other");
  EXPECT_TRUE(writer.Flush(kLong));
  EXPECT_EQ(heard.num_lines(), num_added);
  EXPECT_EQ(heard.num_refused(), num_refused);
  EXPECT_EQ(other_heard.num_refused(), 0u);
  EXPECT_EQ(other_heard.num_last(), 1u);
  // All its room is there again.
  EXPECT_TRUE(source.Add(std::string(kRoom - 65, 'y')));
  EXPECT_EQ(pipe.ReadLine().size(), kRoom - 65);
  EXPECT_FALSE(source.Add(std::string(kRoom, 'y')));
}

TEST(LineWriterTest, SourcesDoNotCutEachOthersLines) {
  SmallPipe pipe;
  LineWriter writer(pipe.writing_end());
  constexpr int kLines = 40;
  // More than a pipe takes at once.
  constexpr size_t kLineBytes = 9000;
  std::vector<std::thread> threads;
  for (const char c : {'a', 'b', 'c'}) {
    threads.emplace_back([&writer, c] {
      LineWriter::Source source(writer, kLines * (kLineBytes + 65), nullptr);
      for (int i = 0; i < kLines; ++i) EXPECT_TRUE(source.Add(std::string(kLineBytes, c)));
    });
  }
  std::map<char, int> counts;
  for (int i = 0; i < 3 * kLines; ++i) {
    const std::string line = pipe.ReadLine();
    ASSERT_EQ(line, std::string(kLineBytes, line.at(0)));
    ++counts[line[0]];
  }
  EXPECT_EQ(counts, (std::map<char, int>{{'a', kLines}, {'b', kLines}, {'c', kLines}}));
  for (std::thread& thread : threads) thread.join();
}

// As a terminal may be that was left so by another program.
TEST(LineWriterTest, AFileThatDoesNotBlockIsWaitedFor) {
  SmallPipe pipe(O_NONBLOCK);
  LineWriter writer(pipe.writing_end());
  Heard heard;
  LineWriter::Source source(writer, 1 << 20, heard.Listener());
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(source.Add(std::string(3000, 'x')));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(pipe.ReadLine(), std::string(3000, 'x'));
  EXPECT_TRUE(writer.Flush(kLong));
  EXPECT_EQ(heard.errors(), (std::map<int, size_t>{}));
}

TEST(LineWriterTest, WhatCannotBeWrittenIsToldWithTheReason) {
  LineWriter writer(open("/dev/full", O_WRONLY));
  Heard heard;
  LineWriter::Source source(writer, 1 << 20, heard.Listener());
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(source.Add("line"));
  EXPECT_TRUE(writer.Flush(kLong));
  EXPECT_EQ(heard.errors(), (std::map<int, size_t>{{ENOSPC, 20}}));
  EXPECT_GE(heard.num_last(), 1u);
}

TEST(LineWriterTest, WhatWasAddedIsWrittenWithoutSourceAndWriter) {
  SmallPipe pipe;
  Heard heard;
  {
    LineWriter writer(pipe.writing_end());
    LineWriter::Source source(writer, 1 << 20, heard.Listener());
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(source.Add(std::string(3000, 'x')));
  }
  // Two lines do not fit into the pipe, so that the others came when nobody was there to hear.
  EXPECT_LE(heard.num_lines(), 1u);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(pipe.ReadLine(), std::string(3000, 'x'));
  // Its thread closes it.
  EXPECT_EQ(pipe.ReadLine(), "");
  EXPECT_LE(heard.num_lines(), 1u);
}

}  // namespace
}  // namespace sluice::base
