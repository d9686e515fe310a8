// `sluice tokenize`: shows what the server's tokenizer makes of a text.
#include <CLI/CLI.hpp>
#include <optional>
#include <ostream>
#include <string>

#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/json.h"

namespace sluice::cli {
namespace {

class TokenizeCommand : public Command {
 public:
  explicit TokenizeCommand(CLI::App& app) {
    CLI::App& tokenize =
        *app.add_subcommand("tokenize", "Prints the token ids of a text and what each stands for");
    tokenize.add_option("text", text_, "The text")->type_name("TEXT")->required();
    tokenize.add_flag("--chat", chat_, "The text is a user's message, for the chat template");
    tokenize
        .add_option("--add_special_tokens", add_special_tokens_,
                    "Let the tokenizer add its special tokens")
        ->type_name("BOOL");
    tokenize.add_flag("--json", json_, "Print a JSON object");
  }

  absl::Status Run(const Environment& environment) override {
    v1::TokenizeRequest request;
    request.set_pieces(true);
    if (add_special_tokens_.has_value()) request.set_add_special_tokens(*add_special_tokens_);
    if (chat_) {
      v1::ChatMessage& message = *request.mutable_chat()->add_messages();
      message.set_role("user");
      message.set_content(text_);
    } else {
      request.set_text(text_);
    }
    ASSIGN_OR_RETURN(const v1::TokenizeResponse response,
                     environment.client.Tokenize(request, environment.QuickCall()));

    std::ostream& out = environment.console.out;
    if (json_) {
      out << Dump(ToJson(response)) << "\n";
      return absl::OkStatus();
    }
    for (int i = 0; i < response.token_ids_size(); ++i) {
      out << response.token_ids(i);
      // Quoted, so that blanks and line breaks can be seen. Older servers send none.
      if (i < response.pieces_size()) out << "\t" << Dump(response.pieces(i));
      out << "\n";
    }
    return absl::OkStatus();
  }

 private:
  std::string text_;
  bool chat_ = false;
  std::optional<bool> add_special_tokens_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> AddTokenizeCommand(CLI::App& app) {
  return std::make_unique<TokenizeCommand>(app);
}

}  // namespace sluice::cli
