// Renders a conversation into a prompt with the checkpoint's own chat template.
//
// Templates are written in Jinja and rendered as Hugging Face does it (trim_blocks and
// lstrip_blocks on). What is known of the language so far: output of expressions, for, if / elif /
// else, comments, white-space control; names, string and integer literals, true, false, none,
// parentheses, +, ==, subscripts and attributes. Anything else is refused when the template is
// parsed, never ignored; only whether x.items is a method that Python has or an entry of a dict is
// not known before it is evaluated.
//
// Limits: 1 MiB of source; 100 blocks, brackets and subscripts inside of each other; 16 MiB of
// output, also within a single expression; 10 million steps of evaluation (about a second).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sluice::tokenizer {

namespace jinja {
class Value;
}

struct ChatMessage {
  std::string role;
  std::string content;
};

// Immutable once parsed; may be used from any thread.
class ChatTemplate {
 public:
  // The text of special tokens, which templates know by these names; empty if the checkpoint has
  // none, and then the name is undefined: it prints as nothing and is false.
  struct SpecialTokens {
    std::string bos_token;
    std::string eos_token;
    // By name: unk_token and the like, and those that the checkpoint names itself.
    std::map<std::string, std::string> others;
    // A list of this name.
    std::vector<std::string> additional_special_tokens;
  };

  // Reads the template of `folder`: tokenizer_config.json's `chat_template` (of a list of named
  // ones, that called "default"), or chat_template.jinja, which wins; and the special tokens of
  // tokenizer_config.json: bos, eos, unk, sep, pad, cls and mask_token, additional_special_tokens,
  // and those that extra_special_tokens names. NOT_FOUND if the checkpoint
  // has none; INVALID_ARGUMENT, naming file and field, if a file is malformed. Otherwise as Parse,
  // naming the file.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Load(const std::string& folder);

  // INVALID_ARGUMENT for what is not a template or beyond a limit, UNIMPLEMENTED for a part of the
  // language that is not supported; both name it with its line and column, counted from 1.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Parse(absl::string_view source,
                                                             SpecialTokens special_tokens);

  ~ChatTemplate();

  // The prompt for `messages`; `tools` and `documents` are none. INVALID_ARGUMENT, with line and
  // column, if the template cannot be evaluated on them (such as adding a string to something that
  // is none) or goes beyond a limit; UNIMPLEMENTED, with line and column, if it reads a method of a
  // value without calling it.
  absl::StatusOr<std::string> Render(absl::Span<const ChatMessage> messages,
                                     bool add_generation_prompt) const;

  // The same with all variables given by name; they win over the special tokens.
  // REQUIRES: `variables` is a dict whose keys are strings.
  absl::StatusOr<std::string> Render(const jinja::Value& variables) const;

 private:
  struct Program;
  explicit ChatTemplate(std::unique_ptr<const Program> program);

  std::unique_ptr<const Program> program_;
};

}  // namespace sluice::tokenizer
