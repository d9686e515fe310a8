#include "cli/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <map>
#include <ostream>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "cli/token_secrecy.h"

namespace sluice::cli {
namespace {

constexpr char kFooter[] =
    "Exit codes: 0 done; 1 the call failed or was interrupted, or the server is not healthy; 2 "
    "wrong "
    "usage.";

// "sluice: NOT_FOUND: no such model" on one line, whatever the message holds.
void PrintError(const absl::Status& status, std::ostream& err) {
  std::string message(status.message());
  std::replace_if(
      message.begin(), message.end(), [](char c) { return absl::ascii_iscntrl(c); }, ' ');
  err << "sluice: " << absl::StatusCodeToString(status.code()) << ": " << message << "\n";
}

int UsageError(absl::string_view message, std::ostream& err) {
  err << "sluice: " << message << " (see sluice --help)\n";
  return kExitUsage;
}

}  // namespace

int RunCli(std::vector<std::string> arguments, Console& console) {
  CLI::App app("Talks to a Sluice server.", "sluice");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.set_version_flag("--version", "sluice " SLUICE_VERSION);

  client::ConnectionOptions connection{.address = "127.0.0.1:50051"};
  std::optional<double> timeout_seconds;
  app.add_option("--address", connection.address,
                 "The server: HOST:PORT or unix:/path. Several: IP:PORT,IP:PORT or "
                 "dns:///NAME:PORT; calls go to those that are ready, in turn")
      ->type_name("HOST:PORT")
      ->envname("SLUICE_ADDRESS")
      ->capture_default_str();
  app.add_option("--tls_ca", connection.tls_ca,
                 "Talk TLS to a server whose certificate is signed by one of these, in PEM form")
      ->type_name("FILE")
      ->envname("SLUICE_CLIENT_TLS_CA");
  app.add_option("--tls_cert", connection.tls_cert,
                 "Show this certificate to a server that wants one of its clients")
      ->type_name("FILE")
      ->envname("SLUICE_CLIENT_TLS_CERT");
  app.add_option("--tls_key", connection.tls_key, "Private key of the certificate")
      ->type_name("FILE")
      ->envname("SLUICE_CLIENT_TLS_KEY");
  app.add_option(
         "--tls_server_name", connection.tls_server_name,
         "The name that the server's certificate is for, if it is not the host of --address or "
         "that is a list")
      ->type_name("NAME")
      ->envname("SLUICE_CLIENT_TLS_SERVER_NAME");
  app.add_option("--token_file", connection.token_file,
                 "Send the token that is in this file with every call")
      ->type_name("FILE")
      ->envname("SLUICE_CLIENT_TOKEN_FILE");
  app.add_option("--timeout", timeout_seconds,
                 "Give up on a call after this time; by default 10 s, without limit for calls that "
                 "generate")
      ->type_name("SECONDS")
      ->check(CLI::PositiveNumber);
  std::optional<int> retries;
  app.add_option("--retries", retries,
                 "How often a call is tried again that the server had no room for, at the time the "
                 "server names, or that did not reach it; by default 3, for load and health 0")
      ->type_name("N")
      ->check(CLI::Range(0, 100));

  std::map<std::string, std::unique_ptr<Command>> commands;
  commands["generate"] = AddGenerateCommand(app);
  commands["chat"] = AddChatCommand(app);
  commands["tokenize"] = AddTokenizeCommand(app);
  commands["info"] = AddInfoCommand(app);
  commands["experts"] = AddExpertsCommand(app);
  commands["load"] = AddLoadCommand(app);
  commands["health"] = AddHealthCommand(app);
  for (CLI::App* subcommand : app.get_subcommands({})) {
    // The flags that all have in common may follow the subcommand.
    subcommand->fallthrough();
    subcommand->footer(
        "Common flags: --address HOST:PORT, --timeout SECONDS, --tls_ca FILE, --tls_cert FILE,\n"
        "--tls_key FILE, --tls_server_name NAME, --token_file FILE, --retries N.\n" +
        std::string(kFooter));
  }

  try {
    // CLI11 takes them last first.
    std::reverse(arguments.begin(), arguments.end());
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    console.out << app.help();
    return kExitOk;
  } catch (const CLI::CallForVersion& version) {
    console.out << version.what() << "\n";
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    // Without a subcommand the parser says only that one is required, whatever there is instead.
    const std::vector<std::string> unknown = app.remaining();
    if (app.get_subcommands().empty() && !unknown.empty()) {
      const char* const what = absl::StartsWith(unknown.front(), "-") ? "flag" : "subcommand";
      return UsageError(absl::StrFormat("no %s \"%s\"", what, absl::CHexEscape(unknown.front())),
                        console.err);
    }
    return UsageError(error.what(), console.err);
  }

  Command& command = *commands.at(app.get_subcommands().front()->get_name());
  const absl::Status usage = command.CheckFlags();
  if (!usage.ok()) {
    const absl::string_view message = usage.message();
    return UsageError(message, console.err);
  }

  const auto client = client::Client::Create(connection);
  if (!client.ok()) {
    PrintError(client.status(), console.err);
    return kExitUsage;
  }
  if (!connection.token_file.empty() && connection.tls_ca.empty() &&
      !IsOnThisMachine(connection.address)) {
    console.err << "sluice: warning: without --tls_ca the token can be read on its way to "
                << connection.address << "\n";
  }
  Environment environment{.client = **client,
                          .console = console,
                          .connect = [&connection] { return client::Client::Create(connection); },
                          .retries = retries};
  if (timeout_seconds.has_value()) environment.timeout = absl::Seconds(*timeout_seconds);
  const absl::Status status = command.Run(environment);
  console.out.flush();
  if (status.ok()) return kExitOk;
  PrintError(status, console.err);
  return kExitError;
}

}  // namespace sluice::cli
