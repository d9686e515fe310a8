// The command line of a program: its flags, --help and --version, read with CLI11.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace sluice::config {

// A flag as --help shows it.
struct FlagSpec {
  const char* name;
  // What stands for its value in the help text; null: it has none, and is a switch.
  const char* value;
  const char* default_value;
  const char* help;
};

struct ProgramSpec {
  const char* name;
  const char* purpose;
  const char* footer = "";
  // Where the descriptions begin.
  int help_column = 36;
};

struct CommandLine {
  // Of the flags that were given, by name; a switch's is "true".
  std::map<std::string, std::string> values;
  // Not empty: --help or --version was given; print this and exit with code 0.
  std::string text;
};

// Flags are `--name=value` or `--name value`, and given twice, the last counts. INVALID_ARGUMENT,
// in one sentence that names it, for a flag that is not in `flags` and for what is no flag.
absl::StatusOr<CommandLine> ParseCommandLine(const ProgramSpec& program,
                                             absl::Span<const FlagSpec> flags, int argc,
                                             const char* const* argv);

}  // namespace sluice::config
