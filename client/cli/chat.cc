// `sluice chat`: a conversation, one line of standard input per turn.
#include <CLI/CLI.hpp>
#include <istream>
#include <optional>
#include <ostream>
#include <string>

#include "cli/answer.h"
#include "cli/command.h"
#include "cli/generation_flags.h"

namespace sluice::cli {
namespace {

class ChatCommand : public Command {
 public:
  explicit ChatCommand(CLI::App& app) {
    CLI::App& chat = *app.add_subcommand(
        "chat",
        "Chats: each line of standard input is a message; /reset forgets the conversation, /quit "
        "ends it, Ctrl-C ends an answer");
    chat.add_option("--system", system_, "A system message that opens the conversation");
    chat.add_option("--message", message_, "Say just this, print the answer and end");
    AddSamplingFlags(chat, flags_);
    chat.add_flag("--json", format_.json, "Print each event as a JSON object");
    chat.add_flag("--quiet", format_.quiet, "No summary on standard error");
  }

  absl::Status Run(const Environment& environment) override {
    request_ = flags_.ToRequest();
    Reset();
    if (message_.has_value()) return Say(*message_, environment);

    Console& console = environment.console;
    std::string line;
    while (ReadLine(console, line)) {
      if (line == "/quit") break;
      if (line == "/reset") {
        Reset();
      } else if (!line.empty()) {
        const absl::Status status = Say(line, environment);
        // Whoever sits at a terminal may try something else; a script must know.
        if (!status.ok() && !console.in_is_terminal) return status;
        if (!status.ok()) console.err << "sluice: " << status << std::endl;
      }
    }
    return absl::OkStatus();
  }

 private:
  static bool ReadLine(Console& console, std::string& line) {
    if (console.in_is_terminal) console.out << "> " << std::flush;
    return static_cast<bool>(std::getline(console.in, line));
  }

  void Reset() {
    request_.mutable_chat()->clear_messages();
    if (system_.has_value()) AddMessage("system", *system_);
  }

  void AddMessage(const std::string& role, const std::string& content) {
    v1::ChatMessage& message = *request_.mutable_chat()->add_messages();
    message.set_role(role);
    message.set_content(content);
  }

  // A turn that fails leaves the conversation as it was before.
  absl::Status Say(const std::string& message, const Environment& environment) {
    AddMessage("user", message);
    const Answer answer = StreamAnswer(environment, request_, format_);
    if (answer.status.ok()) {
      AddMessage("assistant", answer.text);
    } else {
      request_.mutable_chat()->mutable_messages()->RemoveLast();
    }
    return answer.status;
  }

  std::optional<std::string> system_;
  std::optional<std::string> message_;
  GenerationFlags flags_;
  AnswerFormat format_;
  // Holds the conversation so far.
  v1::GenerateRequest request_;
};

}  // namespace

std::unique_ptr<Command> AddChatCommand(CLI::App& app) {
  return std::make_unique<ChatCommand>(app);
}

}  // namespace sluice::cli
