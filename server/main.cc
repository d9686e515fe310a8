// sluice-server: reads the configuration, runs the server, and turns signals into its end. Works as
// process 1 of a container too: signals are blocked and waited for, never left to their defaults.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "config/server_config.h"
#include "server/server.h"

namespace sluice::server {
namespace {

// Ends the thread that waits for signals.
constexpr int kEndOfWaiting = SIGUSR1;

int Fail(const absl::Status& status) {
  base::LogPlainLine(absl::StrCat("sluice-server: ", status.message()));
  return 1;
}

const char* NameOf(int signal) {
  return signal == SIGTERM ? "SIGTERM" : (signal == SIGINT ? "SIGINT" : "SIGHUP");
}

// Blocked in all threads, as long as this is called before there are any.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, kEndOfWaiting}) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

// The first SIGTERM or SIGINT drains the server, or ends it if there is nothing to drain; a second
// one ends it at once, with code 1. SIGHUP has files read again, soon after. Returns when `ended`
// is set and kEndOfWaiting comes; others may send that, too. What ends the server is done before
// anything is said of it.
void WaitForSignals(const sigset_t& signals, const std::atomic<bool>& ended, Server& server) {
  for (bool is_first = true;;) {
    int number = 0;
    sigwait(&signals, &number);
    if (number == kEndOfWaiting) {
      if (ended) return;
      continue;
    }
    if (number == SIGHUP) {
      server.Reload();
    } else if (!is_first || !server.Stop()) {
      server.RemoveSockets();
      base::Log().info("signal {}", NameOf(number));
      base::FlushLog();
      std::_Exit(is_first ? 0 : 1);
    } else {
      is_first = false;
    }
    base::Log().info("signal {}", NameOf(number));
  }
}

int Main(int argc, const char* const* argv) {
  const sigset_t signals = BlockSignals();
  const auto loaded = config::LoadServerConfig(argc, argv, environ);
  if (!loaded.ok()) return Fail(loaded.status());
  if (!loaded->text.empty()) {
    std::fputs(loaded->text.c_str(), stdout);
    return 0;
  }
  if (absl::Status status = base::InitLog(loaded->config.log_level); !status.ok()) {
    return Fail(status);
  }
  for (const std::string& warning : loaded->warnings) base::Log().warn("{}", warning);

  auto server = Server::Create(loaded->config);
  if (!server.ok()) return Fail(server.status());
  std::atomic<bool> ended{false};
  std::thread waiting([&] { WaitForSignals(signals, ended, **server); });
  const absl::Status status = (*server)->Run();
  ended = true;
  pthread_kill(waiting.native_handle(), kEndOfWaiting);
  waiting.join();
  return status.ok() ? 0 : Fail(status);
}

}  // namespace
}  // namespace sluice::server

int main(int argc, char** argv) { return sluice::server::Main(argc, argv); }
