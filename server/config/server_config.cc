#include "config/server_config.h"

#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "config/command_line.h"
#include "config/flags.h"

namespace sluice::config {
namespace {

constexpr ProgramSpec kProgram = {
    .name = "sluice-server",
    .purpose = "Serves a Mixture-of-Experts language model over gRPC.",
    .footer =
        "Every flag is also read from the environment: --max_context from SLUICE_MAX_CONTEXT, and\n"
        "so on. A flag on the command line wins. Bad configuration ends the server with code 1.",
    .help_column = 46};

std::vector<Flag> AllFlags() {
  std::vector<Flag> flags(EngineFlags().begin(), EngineFlags().end());
  flags.insert(flags.end(), TransportFlags().begin(), TransportFlags().end());
  return flags;
}

std::string VariableName(const FlagSpec& flag) {
  return absl::StrCat("SLUICE_", absl::AsciiStrToUpper(flag.name));
}

// The variables that begin with SLUICE_, by name.
std::map<std::string, std::string> SluiceVariables(const char* const* environment) {
  std::map<std::string, std::string> variables;
  for (; *environment != nullptr; ++environment) {
    const absl::string_view entry = *environment;
    const size_t equals = entry.find('=');
    if (equals == absl::string_view::npos || !absl::StartsWith(entry, "SLUICE_")) continue;
    variables.emplace(std::string(entry.substr(0, equals)), std::string(entry.substr(equals + 1)));
  }
  return variables;
}

// Variables that are not flags, but mean something: to the kernels, to the tests, to the command
// line client, and those that Kubernetes sets for a service that is called "sluice".
bool IsKnownVariable(absl::string_view name) {
  return name == "SLUICE_KERNELS" || name == "SLUICE_GOLDEN_DIR" || name == "SLUICE_ADDRESS" ||
         absl::StartsWith(name, "SLUICE_CLIENT_") || absl::StartsWith(name, "SLUICE_PORT") ||
         absl::StartsWith(name, "SLUICE_SERVICE_");
}

// What is wrong about flags that are right one by one.
absl::Status CheckTogether(const ServerConfig& config) {
  if (config.tls_cert.empty() != config.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls_cert and --tls_key go together, and one is missing");
  }
  if (!config.tls_client_ca.empty() && config.tls_cert.empty()) {
    return absl::InvalidArgumentError("--tls_client_ca needs --tls_cert and --tls_key");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoadedConfig> LoadServerConfig(int argc, const char* const* argv,
                                              const char* const* environment) {
  const std::vector<Flag> flags = AllFlags();
  std::vector<FlagSpec> specs;
  for (const Flag& flag : flags) specs.push_back(flag.spec);
  ASSIGN_OR_RETURN(CommandLine given, ParseCommandLine(kProgram, specs, argc, argv));
  LoadedConfig loaded;
  if (!given.text.empty()) {
    loaded.text = std::move(given.text);
    return loaded;
  }
  std::map<std::string, std::string> variables = SluiceVariables(environment);
  for (const Flag& flag : flags) {
    std::string text = flag.spec.default_value;
    std::string source = absl::StrCat("--", flag.spec.name);
    const auto variable = variables.extract(VariableName(flag.spec));
    if (const auto found = given.values.find(flag.spec.name); found != given.values.end()) {
      text = found->second;
    } else if (!variable.empty()) {
      text = variable.mapped();
      source = absl::StrCat(variable.key(), " (for ", source, ")");
    }
    if (const absl::Status status = flag.set(text, loaded.config); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, " ", status.message(), ", not \"", text, "\""));
    }
  }
  RETURN_IF_ERROR(CheckTogether(loaded.config));
  for (const auto& [name, value] : variables) {
    if (!IsKnownVariable(name)) {
      loaded.warnings.push_back(
          absl::StrCat("the variable ", name, " names no flag and is ignored"));
    }
  }
  return loaded;
}

std::string ServedModelName(const ServerConfig& config) {
  if (!config.model_name.empty()) return config.model_name;
  if (config.model.empty()) return "demo";
  std::error_code error;
  std::filesystem::path folder = std::filesystem::weakly_canonical(config.model, error);
  if (error) folder = std::filesystem::path(config.model).lexically_normal();
  // A trailing slash leaves an empty last part.
  if (!folder.has_filename()) folder = folder.parent_path();
  return folder.filename().string();
}

}  // namespace sluice::config
