// `sluice info`: what the server is, which model it serves and how busy it is.
#include <CLI/CLI.hpp>
#include <optional>
#include <ostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/json.h"

namespace sluice::cli {
namespace {

std::string Line(absl::string_view name, absl::string_view value) {
  return absl::StrFormat("%-12s %s\n", std::string(name), std::string(value));
}

// Three significant digits and a unit: 5.30 M.
std::string Scaled(int64_t count) {
  static constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
  double value = static_cast<double>(count);
  int unit = 0;
  while (value >= 1000 && unit < 4) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat("%.*f%s", unit == 0 || value >= 100 ? 0 : (value >= 10 ? 1 : 2), value,
                         kUnits[unit]);
}

v1::ServerPhase PhaseOf(const v1::GetServerInfoResponse& server) {
  if (server.phase() != v1::SERVER_PHASE_UNSPECIFIED) return server.phase();
  return server.ready() ? v1::SERVER_PHASE_READY : v1::SERVER_PHASE_LOADING;
}

const char* NameOf(v1::ServerPhase phase) {
  switch (phase) {
    case v1::SERVER_PHASE_LOADING:
      return "loading";
    case v1::SERVER_PHASE_READY:
      return "ready";
    case v1::SERVER_PHASE_DRAINING:
      return "draining";
    default:
      return "in an unknown phase";
  }
}

std::string ServerText(const v1::GetServerInfoResponse& server) {
  const absl::Time start = absl::FromUnixSeconds(server.start_time().seconds());
  const absl::Duration up = absl::Trunc(base::Clock::System().Now() - start, absl::Seconds(1));
  std::string text =
      Line("server", absl::StrCat("sluice ", server.version(), ", ", NameOf(PhaseOf(server)),
                                  ", up ", absl::FormatDuration(up)));
  text += Line("cpu",
               absl::StrCat(server.cpu(), ", ", server.num_threads(), " threads, ", server.isa()));
  for (const std::string& kernel : server.kernels()) text += Line("kernel", kernel);
  return text;
}

std::string ModelText(const v1::GetModelInfoResponse& model) {
  std::string text =
      Line("model",
           absl::StrCat(model.name(), " (", model.family(), "), ", Scaled(model.num_parameters()),
                        " parameters, ", Scaled(model.num_active_parameters()), " per token"));
  text += Line("weights",
               absl::StrCat(model.weights_format(), ", ", Scaled(model.weights_bytes()), "B"));
  text += Line("layers", absl::StrCat(model.num_layers(), ", of which ", model.moe_layers_size(),
                                      " with ", model.num_experts(), " experts, ",
                                      model.num_experts_per_token(), " per token"));
  text += Line("tokens", absl::StrCat("context ", model.max_context_tokens(), ", vocabulary ",
                                      model.vocab_size(), ", ended by ",
                                      absl::StrJoin(model.eos_token_ids(), " ")));
  text += Line("chat", model.chat() ? "yes" : "no: " + model.chat_unavailable_reason());
  return text;
}

std::string LoadText(const v1::GetLoadResponse& load) {
  return Line("requests", absl::StrCat(load.running_requests(), " of ", load.max_running_requests(),
                                       " running, ", load.waiting_requests(), " of ",
                                       load.max_waiting_requests(), " waiting")) +
         Line("kv cache",
              absl::StrFormat("%d of %d blocks free, %.1f %% used", load.free_kv_blocks(),
                              load.total_kv_blocks(), 100 * load.kv_cache_usage())) +
         Line("so far", absl::StrCat(load.steps(), " steps, ", load.prompt_tokens(),
                                     " prompt tokens, ", load.generated_tokens(), " generated"));
}

class InfoCommand : public Command {
 public:
  explicit InfoCommand(CLI::App& app) {
    CLI::App& info =
        *app.add_subcommand("info", "Prints what the server and its model are, and how busy it is");
    info.add_flag("--json", json_, "Print a JSON object");
  }

  absl::Status Run(const Environment& environment) override {
    const client::CallOptions call = environment.QuickCall();
    ASSIGN_OR_RETURN(const auto server, environment.client.GetServerInfo(call));
    nlohmann::ordered_json json = {{"server", ToJson(server)}};
    std::string text = ServerText(server);
    // While the model loads there is no more to be known.
    if (PhaseOf(server) != v1::SERVER_PHASE_LOADING) {
      ASSIGN_OR_RETURN(const auto model, environment.client.GetModelInfo(call));
      ASSIGN_OR_RETURN(const auto load, environment.client.GetLoad(call));
      json["model"] = ToJson(model);
      json["load"] = ToJson(load);
      text += ModelText(model) + LoadText(load);
    }
    environment.console.out << (json_ ? Dump(json) + "\n" : text);
    return absl::OkStatus();
  }

 private:
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> AddInfoCommand(CLI::App& app) {
  return std::make_unique<InfoCommand>(app);
}

}  // namespace sluice::cli
