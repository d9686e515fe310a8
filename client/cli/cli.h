// RunCli: the `sluice` command line without its process, so that tests can run it.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"

namespace sluice::cli {

enum ExitCode {
  kExitOk = 0,
  // The call failed or was interrupted, or the server is not healthy.
  kExitError = 1,
  // The command line was wrong; nothing was sent.
  kExitUsage = 2,
};

// Runs one command line (without the program's name) and returns its exit code. Errors are one line
// on console.err.
int RunCli(std::vector<std::string> arguments, Console& console);

}  // namespace sluice::cli
