// The `sluice` command line; `sluice --help` says what it can do.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "cli/cli.h"

int main(int argc, char** argv) {
  sluice::cli::Console console{.in = std::cin,
                               .out = std::cout,
                               .err = std::cerr,
                               .in_is_terminal = isatty(STDIN_FILENO) == 1,
                               .out_is_terminal = isatty(STDOUT_FILENO) == 1};
  // https://no-color.org: any value but the empty one turns colours off.
  const char* no_color = std::getenv("NO_COLOR");
  console.color = console.out_is_terminal && (no_color == nullptr || *no_color == '\0');
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) console.width = size.ws_col;
  return sluice::cli::RunCli({argv + 1, argv + argc}, console);
}
