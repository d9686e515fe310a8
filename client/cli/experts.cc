// `sluice experts`: what every expert of every layer does, live.
#include <CLI/CLI.hpp>
#include <numeric>
#include <ostream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/heatmap.h"
#include "cli/json.h"

namespace sluice::cli {
namespace {

// Moves the cursor to the upper left corner; erases what is left of a longer frame.
constexpr char kHome[] = "\x1b[H";
constexpr char kEraseLine[] = "\x1b[K";
constexpr char kEraseBelow[] = "\x1b[J";
constexpr char kEraseAll[] = "\x1b[2J";

absl::Time TimeOf(const v1::GetExpertLoadResponse& load) {
  return absl::FromUnixSeconds(load.time().seconds()) + absl::Nanoseconds(load.time().nanos());
}

int64_t Total(absl::Span<const LayerRoutings> layers) {
  int64_t total = 0;
  for (const LayerRoutings& layer : layers) {
    total = std::accumulate(layer.routings.begin(), layer.routings.end(), total);
  }
  return total;
}

nlohmann::ordered_json LayersJson(absl::Span<const LayerRoutings> layers) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const LayerRoutings& layer : layers) {
    json.push_back({{"layer", layer.layer},
                    {"tokens", layer.routings},
                    {"imbalance", Imbalance(layer.routings)},
                    {"entropy", RoutingEntropy(layer.routings)}});
  }
  return json;
}

class ExpertsCommand : public Command {
 public:
  explicit ExpertsCommand(CLI::App& app) {
    CLI::App& experts = *app.add_subcommand(
        "experts",
        "Shows how the tokens of each layer spread over its experts, live, until Ctrl-C");
    experts.add_option("--layer", layers_, "Only these layers: 0,1,2")
        ->delimiter(',')
        ->allow_extra_args(false);
    experts.add_option("--interval", interval_seconds_, "Time between two looks")
        ->type_name("SECONDS")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    experts.add_flag("--once", once_, "Print the shares since the server started, and end");
    experts.add_flag("--json", json_, "Print a JSON object per look");
  }

  absl::Status Run(const Environment& environment) override {
    v1::GetExpertLoadRequest request;
    request.mutable_layers()->Assign(layers_.begin(), layers_.end());
    const auto look = [&] {
      return environment.client.GetExpertLoad(request, environment.QuickCall());
    };
    ASSIGN_OR_RETURN(v1::GetExpertLoadResponse before, look());
    if (once_) {
      PrintCumulative(before, environment.console);
      return absl::OkStatus();
    }
    if (Redraws(environment.console)) environment.console.out << kEraseAll;
    while (true) {
      absl::SleepFor(absl::Seconds(interval_seconds_));
      ASSIGN_OR_RETURN(v1::GetExpertLoadResponse after, look());
      PrintRates(before, after, environment.console);
      before = std::move(after);
    }
  }

 private:
  // On a terminal each look takes the place of the one before.
  bool Redraws(const Console& console) const { return console.out_is_terminal && !json_; }

  static std::string Render(absl::Span<const LayerRoutings> layers, const Console& console) {
    return RenderHeatmap(layers, {.width = console.width, .color = console.color});
  }

  void PrintCumulative(const v1::GetExpertLoadResponse& load, Console& console) const {
    const std::vector<LayerRoutings> layers = Cumulative(load);
    if (json_) {
      console.out << Dump({{"steps", load.steps()}, {"layers", LayersJson(layers)}}) << "\n";
      return;
    }
    console.out << absl::StrFormat("since the start: %d steps, %d routings\n", load.steps(),
                                   Total(layers))
                << Render(layers, console);
  }

  void PrintRates(const v1::GetExpertLoadResponse& before, const v1::GetExpertLoadResponse& after,
                  Console& console) const {
    const std::vector<LayerRoutings> layers = Difference(before, after);
    const double seconds = absl::ToDoubleSeconds(TimeOf(after) - TimeOf(before));
    const int64_t steps = after.steps() - before.steps();
    if (json_) {
      console.out << Dump({{"seconds", seconds}, {"steps", steps}, {"layers", LayersJson(layers)}})
                  << std::endl;
      return;
    }
    const double routings_per_second =
        seconds > 0 ? static_cast<double>(Total(layers)) / seconds : 0;
    std::string frame = absl::StrFormat("last %.1f s: %d steps, %.0f routings/s\n", seconds, steps,
                                        routings_per_second) +
                        Render(layers, console);
    if (Redraws(console)) {
      frame = kHome + absl::StrReplaceAll(frame, {{"\n", absl::StrCat(kEraseLine, "\n")}}) +
              kEraseBelow;
    }
    console.out << frame << std::flush;
  }

  std::vector<int32_t> layers_;
  double interval_seconds_ = 1;
  bool once_ = false;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> AddExpertsCommand(CLI::App& app) {
  return std::make_unique<ExpertsCommand>(app);
}

}  // namespace sluice::cli
