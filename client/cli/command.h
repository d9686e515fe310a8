// Command: one subcommand of `sluice`. Each lives in a file of its own, which registers its flags
// with CLI11 in an Add function and acts on them in Run.
#pragma once

#include <functional>
#include <iosfwd>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"

namespace CLI {
class App;
}

namespace sluice::cli {

// How often a call that was refused is tried again, in most commands.
inline constexpr int kDefaultRetries = 3;

// What a command reads from and writes to.
struct Console {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  // Whether somebody types into `in` and reads `out`, or both are files and pipes.
  bool in_is_terminal = false;
  bool out_is_terminal = false;
  // Whether `out` shows colours, and its width in columns.
  bool color = false;
  int width = 100;
};

struct Environment {
  const client::Client& client;
  Console& console;
  // Makes another client of the same server, with a connection of its own.
  std::function<absl::StatusOr<std::unique_ptr<client::Client>>()> connect;
  // --timeout; absent: each command has a default of its own.
  std::optional<absl::Duration> timeout;

  // --retries; absent: each command has a default of its own.
  std::optional<int> retries;

  // For a call that is answered at once.
  client::CallOptions QuickCall(int default_retries = kDefaultRetries) const {
    return {.timeout = timeout.value_or(absl::Seconds(10)),
            .retry = {.max_attempts = 1 + retries.value_or(default_retries)}};
  }
  // For a call that takes as long as an answer takes.
  client::CallOptions LongCall(client::Cancellation* cancellation,
                               int default_retries = kDefaultRetries) const {
    return {.timeout = timeout.value_or(absl::InfiniteDuration()),
            .cancellation = cancellation,
            .retry = {.max_attempts = 1 + retries.value_or(default_retries)}};
  }
};

class Command {
 public:
  virtual ~Command() = default;

  // Refuses flags that are right one by one but do not fit together: a usage error.
  virtual absl::Status CheckFlags() const { return absl::OkStatus(); }

  // Does the work. REQUIRES: CheckFlags is OK.
  virtual absl::Status Run(const Environment& environment) = 0;
};

// Each adds its subcommand to `app`. The result must outlive the parsing.
std::unique_ptr<Command> AddGenerateCommand(CLI::App& app);
std::unique_ptr<Command> AddChatCommand(CLI::App& app);
std::unique_ptr<Command> AddTokenizeCommand(CLI::App& app);
std::unique_ptr<Command> AddInfoCommand(CLI::App& app);
std::unique_ptr<Command> AddExpertsCommand(CLI::App& app);
std::unique_ptr<Command> AddLoadCommand(CLI::App& app);
std::unique_ptr<Command> AddHealthCommand(CLI::App& app);

}  // namespace sluice::cli
