#include "server_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/check.h"

namespace sluice::testing {
namespace {

// What follows `key` in `line`, up to the next blank.
std::string ValueOf(const std::string& line, const std::string& key) {
  const size_t at = line.find(key);
  if (at == std::string::npos) return "";
  const size_t begin = at + key.size();
  return line.substr(begin, line.find_first_of(" \n", begin) - begin);
}

}  // namespace

ServerProcess::ServerProcess(std::vector<std::string> flags) {
  std::vector<std::string> arguments = {SLUICE_SERVER, "--listen=127.0.0.1:0",
                                        "--metrics_listen=127.0.0.1:0"};
  for (std::string& flag : flags) arguments.push_back(std::move(flag));
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  int log_pipe[2];
  CHECK(pipe(log_pipe) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, log_pipe[1], STDERR_FILENO);
  posix_spawn_file_actions_addclose(&actions, log_pipe[0]);
  posix_spawn_file_actions_addclose(&actions, log_pipe[1]);
  CHECK(posix_spawn(&pid_, SLUICE_SERVER, &actions, nullptr, argv.data(), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  close(log_pipe[1]);
  reader_ = std::thread([this, fd = log_pipe[0]] { ReadLog(fd); });
}

ServerProcess::~ServerProcess() {
  if (pid_ != -1) {
    Signal(SIGKILL);
    AwaitExit();
  }
}

void ServerProcess::ReadLog(int fd) {
  FILE* file = fdopen(fd, "r");
  char* line = nullptr;
  size_t capacity = 0;
  while (getline(&line, &capacity, file) > 0) {
    base::MutexLock lock(mutex_);
    lines_.push_back(line);
    changed_.NotifyAll();
  }
  std::free(line);
  std::fclose(file);
  base::MutexLock lock(mutex_);
  ended_ = true;
  changed_.NotifyAll();
}

std::string ServerProcess::AwaitLog(const std::string& text) {
  base::MutexLock lock(mutex_);
  for (size_t next = 0;; ++next) {
    while (next == lines_.size() && !ended_) changed_.Wait(mutex_);
    if (next == lines_.size()) return "";
    if (lines_[next].find(text) != std::string::npos) return lines_[next];
  }
}

std::string ServerProcess::grpc_address() { return ValueOf(AwaitLog("listening"), "grpc="); }

void ServerProcess::Signal(int number) { kill(pid_, number); }

int ServerProcess::AwaitExit() {
  int status = 0;
  EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
  pid_ = -1;
  reader_.join();
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

std::string ServerProcess::log() {
  base::MutexLock lock(mutex_);
  return absl::StrJoin(lines_, "");
}

}  // namespace sluice::testing
