// Renders a conversation into a prompt with the checkpoint's own chat template.
//
// Templates are written in Jinja. What is known of it so far: output of expressions, for, if / elif
// / else, comments, white-space control; names, string and integer literals, +, ==, subscripts and
// attributes. Anything else is refused when the template is parsed, never ignored.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sluice::tokenizer {

struct ChatMessage {
  std::string role;
  std::string content;
};

// Immutable once parsed; may be used from any thread.
class ChatTemplate {
 public:
  // The text of special tokens, which templates know by these names; empty if the checkpoint has
  // none.
  struct SpecialTokens {
    std::string bos_token;
    std::string eos_token;
  };

  // Reads the template of `folder`: tokenizer_config.json's `chat_template`, or
  // chat_template.jinja, which wins. NOT_FOUND if the checkpoint has none. Otherwise as Parse.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Load(const std::string& folder);

  // INVALID_ARGUMENT for what is not a template, UNIMPLEMENTED for a part of the language that is
  // not supported; both name it with its line and column, counted from 1.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Parse(absl::string_view source,
                                                             SpecialTokens special_tokens);

  ~ChatTemplate();

  // The prompt for `messages`. INVALID_ARGUMENT, with line and column, if the template cannot be
  // evaluated on them (such as adding a string to something that is none).
  absl::StatusOr<std::string> Render(absl::Span<const ChatMessage> messages,
                                     bool add_generation_prompt) const;

 private:
  struct Program;
  explicit ChatTemplate(std::unique_ptr<const Program> program);

  std::unique_ptr<const Program> program_;
};

}  // namespace sluice::tokenizer
