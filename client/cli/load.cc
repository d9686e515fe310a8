// `sluice load`: a load generator.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <fstream>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "cli/arrivals.h"
#include "cli/command.h"
#include "cli/generation_flags.h"
#include "cli/json.h"
#include "cli/load_generator.h"
#include "client/retry_timer.h"

namespace sluice::cli {
namespace {

using nlohmann::ordered_json;

constexpr int kMaxInFlight = 1024;
constexpr int kMaxConnections = 1024;
constexpr int kMaxPromptTokens = 1 << 20;
constexpr int64_t kMaxPromptFileBytes = 256 << 20;

absl::StatusOr<std::vector<std::string>> ReadPrompts(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> prompts;
  std::string line;
  int64_t bytes = 0;
  while (std::getline(file, line)) {
    bytes += static_cast<int64_t>(line.size());
    if (bytes > kMaxPromptFileBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " has more than ", kMaxPromptFileBytes, " bytes"));
    }
    if (!line.empty()) prompts.push_back(line);
  }
  if (prompts.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " cannot be read or has no prompts"));
  }
  return prompts;
}

ordered_json LatencyJson(const LatencyHistogram& times) {
  return {{"count", times.count()},
          {"mean", absl::ToDoubleSeconds(times.Mean())},
          {"p50", absl::ToDoubleSeconds(times.Percentile(0.5))},
          {"p90", absl::ToDoubleSeconds(times.Percentile(0.9))},
          {"p99", absl::ToDoubleSeconds(times.Percentile(0.99))},
          {"max", absl::ToDoubleSeconds(times.Max())}};
}

std::string LatencyText(const char* name, const LatencyHistogram& times) {
  const auto ms = [](absl::Duration time) { return absl::ToDoubleMilliseconds(time); };
  return absl::StrFormat("%-12s %10.2f %10.2f %10.2f %10.2f ms\n", name, ms(times.Percentile(0.5)),
                         ms(times.Percentile(0.9)), ms(times.Percentile(0.99)), ms(times.Max()));
}

double PerSecond(int64_t count, absl::Duration elapsed) {
  return elapsed > absl::ZeroDuration()
             ? static_cast<double>(count) / absl::ToDoubleSeconds(elapsed)
             : 0;
}

ordered_json ReportJson(const LoadReport& report, int64_t retries) {
  ordered_json failed = ordered_json::object();
  for (const auto& [code, count] : report.failed) failed[absl::StatusCodeToString(code)] = count;
  return {{"requests", report.num_requests},
          {"ok", report.num_ok},
          {"failed", failed},
          {"refused", report.num_refused},
          {"retries", retries},
          {"seconds", absl::ToDoubleSeconds(report.elapsed)},
          {"requests_per_second", PerSecond(report.num_ok, report.elapsed)},
          {"prompt_tokens", report.prompt_tokens},
          {"output_tokens", report.generated_tokens},
          {"output_tokens_per_second", PerSecond(report.generated_tokens, report.elapsed)},
          {"total_tokens_per_second",
           PerSecond(report.prompt_tokens + report.generated_tokens, report.elapsed)},
          {"time_to_first_token_seconds", LatencyJson(report.first_token)},
          {"inter_token_seconds", LatencyJson(report.inter_token)},
          {"latency_seconds", LatencyJson(report.latency)},
          {"refusal_seconds", LatencyJson(report.refusal)},
          {"send_delay_seconds", LatencyJson(report.send_delay)}};
}

std::string ReportText(const LoadReport& report, int64_t retries) {
  std::string failed;
  for (const auto& [code, count] : report.failed) {
    absl::StrAppend(&failed, ", ", count, " failed with ", absl::StatusCodeToString(code));
  }
  if (retries > 0) absl::StrAppend(&failed, ", ", retries, " tried again");
  std::string text = absl::StrFormat("requests     %d ok%s, in %.2f s, %.2f/s\n", report.num_ok,
                                     failed, absl::ToDoubleSeconds(report.elapsed),
                                     PerSecond(report.num_ok, report.elapsed));
  absl::StrAppendFormat(&text, "tokens       %d generated, %.1f/s; %d with prompts, %.1f/s\n",
                        report.generated_tokens, PerSecond(report.generated_tokens, report.elapsed),
                        report.prompt_tokens + report.generated_tokens,
                        PerSecond(report.prompt_tokens + report.generated_tokens, report.elapsed));
  absl::StrAppendFormat(&text, "%-12s %10s %10s %10s %10s\n", "", "p50", "p90", "p99", "max");
  return text + LatencyText("first token", report.first_token) +
         LatencyText("inter-token", report.inter_token) + LatencyText("latency", report.latency) +
         LatencyText("send delay", report.send_delay) +
         (report.num_refused > 0 ? LatencyText("refusal", report.refusal) : "");
}

// Starts a call that is cancelled after `time`, unless it has ended by then.
void StartDoomed(const client::Client& client, const v1::GenerateRequest& request,
                 client::CallOptions options, absl::Duration time,
                 client::Client::EventCallback on_event, client::Client::DoneCallback on_done) {
  // Alive until call and wait have both ended.
  const auto cancellation = std::make_shared<client::Cancellation>();
  options.cancellation = cancellation.get();
  const auto wait =
      client::RetryTimer::System().Start(time, [cancellation] { cancellation->Cancel(); });
  client.StartGenerate(request, options, std::move(on_event),
                       [cancellation, wait, on_done = std::move(on_done)](const absl::Status& s) {
                         wait->Cancel();
                         on_done(s);
                       });
}

class LoadCommand : public Command {
 public:
  explicit LoadCommand(CLI::App& app) {
    CLI::App& load = *app.add_subcommand(
        "load",
        "Sends many requests and measures. Closed loop: --requests in all, --concurrency at a "
        "time. "
        "Open loop: --rate per second on average (Poisson) for --duration, whether or not answers "
        "come; times count from when a request was meant to start. Fails if no request succeeds.");
    AddModeFlags(load);
    CLI::Option* file =
        load.add_option("--prompt_file", prompt_file_, "Prompts, one per line, taken in turn")
            ->check(CLI::ExistingFile);
    load.add_option("--prompt_tokens", prompt_tokens_,
                    "Without a file: this many random tokens as each prompt")
        ->check(CLI::Range(1, kMaxPromptTokens))
        ->capture_default_str()
        ->excludes(file);
    load.add_flag("--chat", chat_, "The prompts of the file are a user's messages")->needs(file);
    load.add_option("--load_seed", load_seed_, "Of arrivals, random prompts and cancellations")
        ->capture_default_str();
    load.add_option("--connections", connections_, "Connections, which the requests take in turn")
        ->check(CLI::Range(1, kMaxConnections))
        ->capture_default_str();
    CLI::Option* share =
        load.add_option("--cancel_share", cancel_.share,
                        "This share of the requests is cancelled, each at a random time")
            ->check(CLI::Range(0.0, 1.0));
    load.add_option("--cancel_within", cancel_within_seconds_,
                    "The latest such time, from when a request was sent")
        ->type_name("SECONDS")
        ->check(CLI::PositiveNumber)
        ->capture_default_str()
        ->needs(share);
    AddSamplingFlags(load, flags_);
    load.add_flag("--json", json_, "Print a JSON object; times are in seconds");
  }

  absl::Status CheckFlags() const override {
    if (!rate_.has_value()) return absl::OkStatus();
    return PoissonArrivals(*rate_, absl::Seconds(duration_seconds_), load_seed_).status();
  }

  absl::Status Run(const Environment& environment) override {
    LoadPlan plan{.num_requests = num_requests_, .max_in_flight = concurrency_};
    if (rate_.has_value()) {
      ASSIGN_OR_RETURN(plan.arrivals,
                       PoissonArrivals(*rate_, absl::Seconds(duration_seconds_), load_seed_));
      plan.num_requests = 0;
      plan.max_in_flight = max_in_flight_;
    }
    std::function<v1::GenerateRequest(int64_t)> make_request;
    if (prompt_file_.empty()) {
      ASSIGN_OR_RETURN(const v1::GetModelInfoResponse model,
                       environment.client.GetModelInfo(environment.QuickCall()));
      make_request = RandomPrompts(model.vocab_size());
    } else {
      ASSIGN_OR_RETURN(std::vector<std::string> prompts, ReadPrompts(prompt_file_));
      make_request = FilePrompts(std::move(prompts));
    }
    ASSIGN_OR_RETURN(const auto more_clients, Connect(environment));
    const auto client_of = [&](int64_t i) -> const client::Client& {
      const auto index = static_cast<size_t>(i % connections_);
      return index == 0 ? environment.client : *more_clients[index - 1];
    };
    CancelPlan cancel_plan = cancel_;
    cancel_plan.within = absl::Seconds(cancel_within_seconds_);
    cancel_plan.seed = load_seed_;
    std::atomic<int64_t> retries{0};
    const LoadReport report = RunLoad(plan, [&](int64_t i, auto on_event, auto on_done) {
      client::CallOptions options = environment.LongCall(nullptr, /*default_retries=*/0);
      options.retry.on_retry = [&retries](const client::Retry&) { ++retries; };
      const client::Client& client = client_of(i);
      if (const auto time = cancel_plan.TimeOf(i)) {
        StartDoomed(client, make_request(i), options, *time, std::move(on_event),
                    std::move(on_done));
      } else {
        client.StartGenerate(make_request(i), options, std::move(on_event), std::move(on_done));
      }
    });
    environment.console.out << (json_ ? Dump(ReportJson(report, retries)) + "\n"
                                      : ReportText(report, retries));
    return report.num_ok > 0 ? absl::OkStatus() : report.first_error;
  }

 private:
  void AddModeFlags(CLI::App& load) {
    CLI::Option* rate =
        load.add_option("--rate", rate_, "Requests per second")->check(CLI::PositiveNumber);
    load.add_option("--duration", duration_seconds_, "How long requests are sent")
        ->type_name("SECONDS")
        ->check(CLI::PositiveNumber)
        ->capture_default_str()
        ->needs(rate);
    load.add_option("--max_in_flight", max_in_flight_,
                    "Open loop: requests at a time; more wait here, with their clock running")
        ->check(CLI::Range(1, kMaxInFlight))
        ->capture_default_str()
        ->needs(rate);
    load.add_option("--concurrency", concurrency_, "Requests at a time")
        ->check(CLI::Range(1, kMaxInFlight))
        ->capture_default_str()
        ->excludes(rate);
    load.add_option("--requests", num_requests_, "Requests in all")
        ->check(CLI::PositiveNumber)
        ->capture_default_str()
        ->excludes(rate);
  }

  // All connections but the first.
  absl::StatusOr<std::vector<std::unique_ptr<client::Client>>> Connect(
      const Environment& environment) const {
    std::vector<std::unique_ptr<client::Client>> clients;
    for (int i = 1; i < connections_; ++i) {
      ASSIGN_OR_RETURN(clients.emplace_back(), environment.connect());
    }
    return clients;
  }

  std::function<v1::GenerateRequest(int64_t)> RandomPrompts(int vocab_size) const {
    return [this, vocab_size = std::max(vocab_size, 1)](int64_t i) {
      v1::GenerateRequest request = flags_.ToRequest();
      std::seed_seq seed{load_seed_, static_cast<uint64_t>(i)};
      std::mt19937_64 random(seed);
      auto& ids = *request.mutable_token_ids()->mutable_ids();
      for (int t = 0; t < prompt_tokens_; ++t) {
        ids.Add(static_cast<int32_t>(random() % static_cast<uint64_t>(vocab_size)));
      }
      return request;
    };
  }

  std::function<v1::GenerateRequest(int64_t)> FilePrompts(std::vector<std::string> prompts) const {
    return [this, prompts = std::move(prompts)](int64_t i) {
      v1::GenerateRequest request = flags_.ToRequest();
      const std::string& prompt = prompts[i % static_cast<int64_t>(prompts.size())];
      if (chat_) {
        v1::ChatMessage& message = *request.mutable_chat()->add_messages();
        message.set_role("user");
        message.set_content(prompt);
      } else {
        request.set_text(prompt);
      }
      return request;
    };
  }

  std::optional<double> rate_;
  double duration_seconds_ = 10;
  int max_in_flight_ = kMaxInFlight;
  int concurrency_ = 1;
  int64_t num_requests_ = 100;
  std::string prompt_file_;
  int prompt_tokens_ = 32;
  bool chat_ = false;
  uint64_t load_seed_ = 1;
  int connections_ = 1;
  CancelPlan cancel_;
  double cancel_within_seconds_ = 1;
  GenerationFlags flags_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> AddLoadCommand(CLI::App& app) {
  return std::make_unique<LoadCommand>(app);
}

}  // namespace sluice::cli
