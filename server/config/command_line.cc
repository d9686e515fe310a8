#include "config/command_line.h"

#include <CLI/CLI.hpp>
#include <deque>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "config/version.h"

namespace sluice::config {
namespace {

// Stands for the value in "--flag=", which the library would take as "no value yet".
constexpr const char* kEmptyValue = "\x01";

// As the library wants them: last to first.
std::vector<std::string> Arguments(int argc, const char* const* argv) {
  std::vector<std::string> arguments;
  for (int i = argc - 1; i > 0; --i) {
    arguments.emplace_back(argv[i]);
    if (absl::StartsWith(argv[i], "--") && absl::EndsWith(argv[i], "=")) {
      arguments.back() += kEmptyValue;
    }
  }
  return arguments;
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(const ProgramSpec& program,
                                             absl::Span<const FlagSpec> flags, int argc,
                                             const char* const* argv) {
  CLI::App app(program.purpose, program.name);
  app.set_help_flag("--help", "Print this text and exit");
  app.set_version_flag("--version", absl::StrCat(program.name, " ", std::string(Version())),
                       "Print the version and exit");
  app.footer(program.footer);
  app.get_formatter()->column_width(static_cast<size_t>(program.help_column));
  // Left-over arguments are reported below, in our own words.
  app.allow_extras();
  struct Given {
    CLI::Option* option;
    std::string text;
    bool is_set = false;
  };
  // The library holds pointers into it.
  std::deque<Given> all_given;
  for (const FlagSpec& flag : flags) {
    Given& given = all_given.emplace_back();
    const std::string name = absl::StrCat("--", flag.name);
    if (flag.value == nullptr) {
      given.option = app.add_flag(name, given.is_set, flag.help);
      given.text = "true";
      continue;
    }
    given.option = app.add_option(name, given.text, flag.help)
                       ->type_name(flag.value)
                       ->default_str(flag.default_value)
                       ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  CommandLine line;
  try {
    app.parse(Arguments(argc, argv));
  } catch (const CLI::CallForHelp&) {
    line.text = app.help();
    return line;
  } catch (const CLI::CallForVersion& version) {
    line.text = absl::StrCat(version.what(), "\n");
    return line;
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(error.what());
  }
  for (const std::string& argument : app.remaining()) {
    return absl::InvalidArgumentError(
        absl::StrCat(absl::StartsWith(argument, "-") ? "there is no flag " : "stray argument ",
                     argument, " (see --help)"));
  }
  for (size_t i = 0; i < flags.size(); ++i) {
    Given& given = all_given[i];
    if (given.option->count() == 0) continue;
    line.values[flags[i].name] = given.text == kEmptyValue ? "" : std::move(given.text);
  }
  return line;
}

}  // namespace sluice::config
