// `sluice health`: for the probes of containers and scripts.
#include <CLI/CLI.hpp>
#include <ostream>
#include <string>

#include "base/status_macros.h"
#include "cli/command.h"

namespace sluice::cli {
namespace {

class HealthCommand : public Command {
 public:
  explicit HealthCommand(CLI::App& app) {
    CLI::App& health =
        *app.add_subcommand("health", "Exits with 0 if the server says that it is SERVING");
    health
        .add_option(
            "--service", service_,
            "Ask for this service: sluice.v1.Generation serves once the model is loaded; by "
            "default for the server as a whole, which serves while it lives")
        ->type_name("NAME");
  }

  absl::Status Run(const Environment& environment) override {
    RETURN_IF_ERROR(
        environment.client.CheckHealth(service_, environment.QuickCall(/*default_retries=*/0)));
    environment.console.out << "SERVING\n";
    return absl::OkStatus();
  }

 private:
  std::string service_;
};

}  // namespace

std::unique_ptr<Command> AddHealthCommand(CLI::App& app) {
  return std::make_unique<HealthCommand>(app);
}

}  // namespace sluice::cli
