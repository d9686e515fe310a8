// `sluice generate`: continues a text.
#include <CLI/CLI.hpp>
#include <istream>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "cli/answer.h"
#include "cli/command.h"
#include "cli/generation_flags.h"

namespace sluice::cli {
namespace {

// A prompt from standard input is not longer than this.
constexpr int64_t kMaxPromptBytes = 64 << 20;

absl::StatusOr<std::string> ReadAll(std::istream& in) {
  std::string text;
  char buffer[1 << 16];
  while (in.read(buffer, sizeof(buffer)) || in.gcount() > 0) {
    text.append(buffer, in.gcount());
    if (static_cast<int64_t>(text.size()) > kMaxPromptBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("standard input has more than ", kMaxPromptBytes, " bytes"));
    }
  }
  return text;
}

class GenerateCommand : public Command {
 public:
  explicit GenerateCommand(CLI::App& app) {
    CLI::App& generate =
        *app.add_subcommand("generate", "Continues a prompt and prints the answer as it is made");
    CLI::Option* prompt =
        generate.add_option("prompt", prompt_, "The text to continue; - reads standard input")
            ->type_name("PROMPT");
    generate.add_option("--token_ids", token_ids_, "A prompt of token ids: 1,2,3")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->excludes(prompt);
    AddSamplingFlags(generate, flags_);
    AddRequestFlags(generate, flags_);
    generate.add_flag("--json", format_.json, "Print each event as a JSON object");
    generate.add_flag("--quiet", format_.quiet, "No summary on standard error");
  }

  absl::Status CheckFlags() const override {
    if (!prompt_.has_value() && token_ids_.empty()) {
      return absl::InvalidArgumentError("generate needs a prompt, - or --token_ids");
    }
    if (!format_.json && (flags_.logprobs.has_value() || flags_.prompt_logprobs.has_value())) {
      return absl::InvalidArgumentError("--logprobs and --prompt_logprobs need --json");
    }
    return absl::OkStatus();
  }

  absl::Status Run(const Environment& environment) override {
    v1::GenerateRequest request = flags_.ToRequest();
    if (!prompt_.has_value()) {
      request.mutable_token_ids()->mutable_ids()->Assign(token_ids_.begin(), token_ids_.end());
    } else if (*prompt_ == "-") {
      ASSIGN_OR_RETURN(*request.mutable_text(), ReadAll(environment.console.in));
    } else {
      request.set_text(*prompt_);
    }
    return StreamAnswer(environment, request, format_).status;
  }

 private:
  std::optional<std::string> prompt_;
  std::vector<int32_t> token_ids_;
  GenerationFlags flags_;
  AnswerFormat format_;
};

}  // namespace

std::unique_ptr<Command> AddGenerateCommand(CLI::App& app) {
  return std::make_unique<GenerateCommand>(app);
}

}  // namespace sluice::cli
