#include "bench/options.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "bench/formats.h"
#include "config/command_line.h"
#include "config/values.h"

namespace sluice::bench {
namespace {

// Bounds the memory that a flag can ask for: a KV block per sixteen tokens and sequence.
constexpr int64_t kMaxTokens = int64_t{1} << 24;
constexpr int64_t kMaxBatch = 4096;

absl::Status Named(const std::string& flag, const std::string& text, const absl::Status& status) {
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " ", status.message(), ", not \"", text, "\""));
}

absl::StatusOr<int> ParseNumber(const std::string& flag, const std::string& text, int64_t least,
                                int64_t most) {
  const absl::StatusOr<int64_t> value = config::ParseInt(text, least, most);
  if (!value.ok()) return Named(flag, text, value.status());
  return static_cast<int>(*value);
}

// Numbers with commas between them.
absl::StatusOr<std::vector<int>> ParseNumbers(const std::string& flag, const std::string& text,
                                              int64_t least, int64_t most) {
  std::vector<int> numbers;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    ASSIGN_OR_RETURN(const int number, ParseNumber(flag, std::string(part), least, most));
    numbers.push_back(number);
  }
  return numbers;
}

constexpr config::ProgramSpec kProgram = {
    .name = "sluice-bench",
    .purpose = "Measures the speed of a model, without scheduler and network."};

constexpr config::FlagSpec kFlags[] = {
    {"model", "DIR", "", "Folder of the checkpoint (required)"},
    {"weights", "FORMAT", "auto",
     "Format of the weights, as the server's; auto is the best that the processor has kernels for"},
    {"threads", "N", "0",
     "Threads that compute; 0 is one for each physical core that the process may use"},
    {"prompt", "N", "512", "Tokens of the prompt whose prefill is measured"},
    {"generate", "N", "64", "Tokens that each sequence of a decode measurement generates"},
    {"batch", "N,...", "1,8,32", "Sequences that generate at once, one measurement each"},
    {"context", "N,...", "0",
     "Tokens in the KV cache when a measurement begins, one set of measurements each"},
    {"context_batch", "N,...", "", "In place of --batch at contexts above 0; empty is the same"},
    {"rounds", "N", "3", "How often everything is measured; medians are printed"},
    {"interactive", nullptr, "",
     "Measure a round for each line of standard input, over the contexts on it, and print a line "
     "of JSON"},
    {"quality", nullptr, "",
     "Instead of speed, compare each format's next-token distributions with f32's"},
    {"texts", "FILE", "",
     "Conversations for --quality, as in models/demo/heldout.jsonl; by default golden.json and "
     "heldout.jsonl in the checkpoint's folder"},
    {"json", nullptr, "", "Print JSON instead of a table"},
};

// The values of kFlags: what was given, otherwise the default.
class Values {
 public:
  explicit Values(const config::CommandLine& line) {
    for (const config::FlagSpec& flag : kFlags) values_[flag.name] = flag.default_value;
    for (const auto& [name, value] : line.values) values_[name] = value;
  }

  const std::string& Text(const char* flag) const { return values_.at(flag); }
  bool IsOn(const char* flag) const { return !Text(flag).empty(); }
  absl::StatusOr<int> Number(const char* flag, int64_t least, int64_t most) const {
    return ParseNumber(absl::StrCat("--", flag), Text(flag), least, most);
  }
  absl::StatusOr<std::vector<int>> Numbers(const char* flag, int64_t least, int64_t most) const {
    return ParseNumbers(absl::StrCat("--", flag), Text(flag), least, most);
  }

 private:
  std::map<std::string, std::string> values_;
};

}  // namespace

absl::StatusOr<ParsedOptions> ParseOptions(int argc, const char* const* argv) {
  ASSIGN_OR_RETURN(const config::CommandLine line,
                   config::ParseCommandLine(kProgram, kFlags, argc, argv));
  ParsedOptions parsed;
  if (!line.text.empty()) {
    parsed.text = line.text;
    return parsed;
  }
  const Values values(line);
  BenchOptions& options = parsed.options;
  options.model = values.Text("model");
  options.weights = values.Text("weights");
  options.texts = values.Text("texts");
  options.interactive = values.IsOn("interactive");
  options.quality = values.IsOn("quality");
  options.json = values.IsOn("json");
  if (options.model.empty()) return absl::InvalidArgumentError("--model is needed (see --help)");
  if (options.weights != "auto") {
    const absl::Status format = FindFormat(options.weights).status();
    if (!format.ok()) return Named("--weights", options.weights, format);
  }
  Workload& workload = options.workload;
  ASSIGN_OR_RETURN(options.threads, values.Number("threads", 0, 1024));
  ASSIGN_OR_RETURN(workload.prompt, values.Number("prompt", 1, kMaxTokens));
  ASSIGN_OR_RETURN(workload.generate, values.Number("generate", 1, kMaxTokens));
  ASSIGN_OR_RETURN(workload.batches, values.Numbers("batch", 1, kMaxBatch));
  ASSIGN_OR_RETURN(workload.contexts, values.Numbers("context", 0, kMaxTokens));
  if (values.IsOn("context_batch")) {
    ASSIGN_OR_RETURN(workload.context_batches, values.Numbers("context_batch", 1, kMaxBatch));
  }
  ASSIGN_OR_RETURN(options.rounds, values.Number("rounds", 1, 1000));
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
