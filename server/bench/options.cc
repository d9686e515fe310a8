#include "bench/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "bench/formats.h"
#include "config/values.h"
#include "config/version.h"

namespace sluice::bench {
namespace {

// Bounds the memory that a flag can ask for: a KV block per sixteen tokens and sequence.
constexpr int64_t kMaxTokens = int64_t{1} << 24;
constexpr int64_t kMaxBatch = 4096;

absl::Status Named(const char* flag, const std::string& text, const absl::Status& status) {
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " ", status.message(), ", not \"", text, "\""));
}

absl::StatusOr<int> ParseNumber(const char* flag, const std::string& text, int64_t least,
                                int64_t most) {
  const absl::StatusOr<int64_t> value = config::ParseInt(text, least, most);
  if (!value.ok()) return Named(flag, text, value.status());
  return static_cast<int>(*value);
}

// Numbers with commas between them.
absl::StatusOr<std::vector<int>> ParseNumbers(const char* flag, const std::string& text,
                                              int64_t least, int64_t most) {
  std::vector<int> numbers;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    ASSIGN_OR_RETURN(const int number, ParseNumber(flag, std::string(part), least, most));
    numbers.push_back(number);
  }
  return numbers;
}

}  // namespace

absl::StatusOr<ParsedOptions> ParseOptions(int argc, const char* const* argv) {
  std::string threads = "0";
  std::string prompt = "512";
  std::string generate = "64";
  std::string batch = "1,8,32";
  std::string context = "0";
  std::string context_batch;
  std::string rounds = "3";
  ParsedOptions parsed;
  CLI::App app("Measures the speed of a model, without scheduler and network.", "sluice-bench");
  app.set_help_flag("--help", "Print this text and exit");
  app.set_version_flag("--version", absl::StrCat("sluice-bench ", std::string(config::Version())),
                       "Print the version and exit");
  app.get_formatter()->column_width(36);
  app.allow_extras();
  const auto add = [&](const char* flag, const char* value, std::string& text, const char* help) {
    app.add_option(flag, text, help)->type_name(value)->default_str(text);
  };
  add("--model", "DIR", parsed.options.model, "Folder of the checkpoint (required)");
  add("--weights", "FORMAT", parsed.options.weights,
      "Format of the weights, as the server's; auto is the best that the processor has kernels "
      "for");
  add("--threads", "N", threads,
      "Threads that compute; 0 is one for each physical core that the process may use");
  add("--prompt", "N", prompt, "Tokens of the prompt whose prefill is measured");
  add("--generate", "N", generate, "Tokens that each sequence of a decode measurement generates");
  add("--batch", "N,...", batch, "Sequences that generate at once, one measurement each");
  add("--context", "N,...", context,
      "Tokens in the KV cache when a measurement begins, one set of measurements each");
  add("--context_batch", "N,...", context_batch,
      "In place of --batch at contexts above 0; empty is the same");
  add("--rounds", "N", rounds, "How often everything is measured; medians are printed");
  app.add_flag(
      "--interactive", parsed.options.interactive,
      "Measure a round for each line of standard input, over the contexts on it, and print "
      "a line of JSON");
  app.add_flag("--quality", parsed.options.quality,
               "Instead of speed, compare each format's next-token distributions with f32's");
  add("--texts", "FILE", parsed.options.texts,
      "Conversations for --quality, as in models/demo/heldout.jsonl; by default golden.json and "
      "heldout.jsonl in the checkpoint's folder");
  app.add_flag("--json", parsed.options.json, "Print JSON instead of a table");
  try {
    app.parse(argc, argv);
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
        absl::StrCat("there is no flag or argument ", argument, " (see --help)"));
  }
  BenchOptions& options = parsed.options;
  if (options.model.empty()) return absl::InvalidArgumentError("--model is needed (see --help)");
  if (options.weights != "auto") {
    const absl::Status format = FindFormat(options.weights).status();
    if (!format.ok()) return Named("--weights", options.weights, format);
  }
  ASSIGN_OR_RETURN(options.threads, ParseNumber("--threads", threads, 0, 1024));
  ASSIGN_OR_RETURN(options.workload.prompt, ParseNumber("--prompt", prompt, 1, kMaxTokens));
  ASSIGN_OR_RETURN(options.workload.generate, ParseNumber("--generate", generate, 1, kMaxTokens));
  ASSIGN_OR_RETURN(options.workload.batches, ParseNumbers("--batch", batch, 1, kMaxBatch));
  ASSIGN_OR_RETURN(options.workload.contexts, ParseNumbers("--context", context, 0, kMaxTokens));
  if (!context_batch.empty()) {
    ASSIGN_OR_RETURN(options.workload.context_batches,
                     ParseNumbers("--context_batch", context_batch, 1, kMaxBatch));
  }
  ASSIGN_OR_RETURN(options.rounds, ParseNumber("--rounds", rounds, 1, 1000));
  return parsed;
}

absl::StatusOr<std::vector<int>> ParseContexts(const std::string& text, const Workload& workload) {
  if (text.empty()) return workload.contexts;
  ASSIGN_OR_RETURN(std::vector<int> contexts, ParseNumbers("a round", text, 0, kMaxTokens));
  for (const int context : contexts) {
    if (std::count(workload.contexts.begin(), workload.contexts.end(), context) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("a round at context ", context, ", which is not among --context"));
    }
  }
  return contexts;
}

}  // namespace sluice::bench
