#include "config/server_config.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "config/values.h"
#include "config/version.h"

namespace sluice::config {
namespace {

struct Flag {
  const char* name;
  const char* value;  // what stands for its value in the help text
  const char* default_value;
  const char* help;
  // Parses, checks and stores.
  absl::Status (*set)(const std::string& text, ServerConfig& config);
};

// Stores what `parsed` holds, or returns its error.
template <typename T, typename U>
absl::Status Store(absl::StatusOr<T> parsed, U& field) {
  if (!parsed.ok()) return parsed.status();
  field = static_cast<U>(*std::move(parsed));
  return absl::OkStatus();
}

constexpr int64_t kMaxTokens = int64_t{1} << 24;

absl::Status SetModelName(const std::string& text, ServerConfig& config) {
  constexpr size_t kMaxBytes = 256;
  if (text.size() > kMaxBytes ||
      std::any_of(text.begin(), text.end(), [](char c) { return absl::ascii_iscntrl(c); })) {
    return absl::InvalidArgumentError(
        absl::StrCat("must have at most ", kMaxBytes, " bytes and no control characters"));
  }
  config.model_name = text;
  return absl::OkStatus();
}

absl::Status SetMetricsListen(const std::string& text, ServerConfig& config) {
  if (text.empty()) {
    config.metrics_listen.clear();
    return absl::OkStatus();
  }
  return Store(ParseAddress(text), config.metrics_listen);
}

absl::Status SetLogLevel(const std::string& text, ServerConfig& config) {
  for (const char* level : {"debug", "info", "warning", "error"}) {
    if (text == level) {
      config.log_level = text;
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError("must be debug, info, warning or error");
}

absl::Status SetDrainTimeout(const std::string& text, ServerConfig& config) {
  int64_t seconds = 0;
  RETURN_IF_ERROR(Store(ParseInt(text, 0, 86400), seconds));
  config.drain_timeout = absl::Seconds(seconds);
  return absl::OkStatus();
}

const std::array<Flag, 19> kFlags = {{
    {"model", "DIR", "", "Folder of the checkpoint to serve (default: the demo model)",
     [](const std::string& text, ServerConfig& config) {
       config.model = text;
       return absl::OkStatus();
     }},
    {"model_name", "NAME", "", "Name under which it is served (default: the folder's name)",
     SetModelName},
    {"listen", "HOST:PORT", "127.0.0.1:50051",
     "Where gRPC is served; 0.0.0.0 is all interfaces, port 0 picks a free one",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseAddress(text), config.listen);
     }},
    {"metrics_listen", "HOST:PORT", "127.0.0.1:9090",
     "Where Prometheus metrics are served; empty turns them off", SetMetricsListen},
    {"weights", "auto|f32|bf16|int8|int4", "auto",
     "Format of the weights in memory; auto is bf16 where the processor has kernels for it",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseWeightsFormat(text), config.weights);
     }},
    {"threads", "N", "0",
     "Threads that compute; 0 is one for each physical core that the process may use",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseInt(text, 0, 1024), config.threads);
     }},
    {"kv_cache_bytes", "SIZE", "1GiB", "Memory of the KV cache, in bytes or with KiB, MiB, GiB",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseBytes(text, int64_t{1} << 16, int64_t{1} << 50), config.kv_cache_bytes);
     }},
    {"kv_cache_dtype", "auto|bf16|f32", "auto",
     "Type of the keys and values in the KV cache; auto is f32 with f32 weights, otherwise bf16",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseKvCacheDtype(text), config.kv_cache_dtype);
     }},
    {"max_running_requests", "N", "64", "Requests that are computed at once",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseInt(text, 1, 4096), config.max_running_requests);
     }},
    {"max_waiting_requests", "N", "256", "Requests that wait to be computed; more are refused",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseInt(text, 1, 1000000), config.max_waiting_requests);
     }},
    {"max_active_requests", "N", "1024",
     "Requests whose stream is open, unread answers among them; more are refused",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseInt(text, 1, 1000000), config.max_active_requests);
     }},
    {"max_step_tokens", "N", "512",
     "Tokens of one step of the model; longer prompts take several steps",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseInt(text, 1, 65536), config.max_step_tokens);
     }},
    {"max_context", "N", "0",
     "The longest prompt and answer together, in tokens; 0 is the model's limit",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseInt(text, 0, kMaxTokens), config.max_context);
     }},
    {"default_max_tokens", "N", "256", "Length of an answer that sets no max_tokens, in tokens",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseInt(text, 1, kMaxTokens), config.default_max_tokens);
     }},
    {"max_message_bytes", "SIZE", "4MiB", "The largest message that a client may send",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseBytes(text, 1024, int64_t{1} << 30), config.max_message_bytes);
     }},
    {"max_concurrent_streams", "N", "1024", "Calls that one connection may have open at once",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseInt(text, 1, 1000000), config.max_concurrent_streams);
     }},
    {"expert_metrics", "per_expert|per_layer|off", "per_expert",
     "Which expert metrics are exported; per_layer if layers x experts series are too many",
     [](const std::string& text, ServerConfig& config) {
       return Store(ParseExpertMetrics(text), config.expert_metrics);
     }},
    {"log_level", "debug|info|warning|error", "info", "The least severe events that are logged",
     SetLogLevel},
    {"drain_timeout", "SECONDS", "30",
     "How long running requests may go on after the server was told to stop", SetDrainTimeout},
}};

std::string VariableName(const Flag& flag) {
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
         absl::StartsWith(name, "SLUICE_PORT") || absl::StartsWith(name, "SLUICE_SERVICE_");
}

struct ParsedFlags {
  // By position in kFlags; absent if not given.
  std::array<std::optional<std::string>, kFlags.size()> values;
  std::string text;  // as LoadedConfig's
};

// Stands for the value in "--flag=", which the library would take as "no value yet".
constexpr const char* kEmptyValue = "\x01";

absl::StatusOr<ParsedFlags> ParseFlags(int argc, const char* const* argv) {
  CLI::App app("Serves a Mixture-of-Experts language model over gRPC.", "sluice-server");
  app.set_help_flag("--help", "Print this text and exit");
  app.set_version_flag("--version", absl::StrCat("sluice-server ", std::string(Version())),
                       "Print the version and exit");
  app.footer(
      "Every flag is also read from the environment: --max_context from SLUICE_MAX_CONTEXT, and\n"
      "so on. A flag on the command line wins. Bad configuration ends the server with code 1.");
  app.get_formatter()->column_width(46);
  // Left-over arguments are reported below, in our own words.
  app.allow_extras();
  std::array<std::string, kFlags.size()> given;
  std::array<CLI::Option*, kFlags.size()> options;
  for (size_t i = 0; i < kFlags.size(); ++i) {
    const Flag& flag = kFlags[i];
    options[i] = app.add_option(absl::StrCat("--", flag.name), given[i], flag.help)
                     ->type_name(flag.value)
                     ->default_str(flag.default_value)
                     ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  // The library wants them last to first.
  std::vector<std::string> arguments;
  for (int i = argc - 1; i > 0; --i) {
    arguments.emplace_back(argv[i]);
    if (absl::StartsWith(argv[i], "--") && absl::EndsWith(argv[i], "=")) {
      arguments.back() += kEmptyValue;
    }
  }
  ParsedFlags parsed;
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    parsed.text = app.help();
    return parsed;
  } catch (const CLI::CallForVersion& version) {
    parsed.text = absl::StrCat(version.what(), "\n");
    return parsed;
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(error.what());
  }
  for (const std::string& argument : app.remaining()) {
    return absl::InvalidArgumentError(
        absl::StrCat(absl::StartsWith(argument, "-") ? "there is no flag " : "stray argument ",
                     argument, " (see --help)"));
  }
  for (size_t i = 0; i < kFlags.size(); ++i) {
    if (options[i]->count() > 0) parsed.values[i] = given[i] == kEmptyValue ? "" : given[i];
  }
  return parsed;
}

}  // namespace

absl::StatusOr<LoadedConfig> LoadServerConfig(int argc, const char* const* argv,
                                              const char* const* environment) {
  ASSIGN_OR_RETURN(const ParsedFlags parsed, ParseFlags(argc, argv));
  LoadedConfig loaded;
  if (!parsed.text.empty()) {
    loaded.text = parsed.text;
    return loaded;
  }
  std::map<std::string, std::string> variables = SluiceVariables(environment);
  for (size_t i = 0; i < kFlags.size(); ++i) {
    const Flag& flag = kFlags[i];
    std::string text = flag.default_value;
    std::string source = absl::StrCat("--", flag.name);
    const auto variable = variables.extract(VariableName(flag));
    if (parsed.values[i].has_value()) {
      text = *parsed.values[i];
    } else if (!variable.empty()) {
      text = variable.mapped();
      source = absl::StrCat(variable.key(), " (for ", source, ")");
    }
    if (const absl::Status status = flag.set(text, loaded.config); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, " ", status.message(), ", not \"", text, "\""));
    }
  }
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
