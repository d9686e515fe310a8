// Cuts a template into tokens and applies its white-space control.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tokenizer/jinja/diagnostics.h"

namespace sluice::tokenizer::jinja {

inline constexpr size_t kMaxSourceBytes = size_t{1} << 20;

enum class TokenKind {
  kText,         // text outside of the tags, white space already removed
  kOutputBegin,  // {{
  kOutputEnd,    // }}
  kTagBegin,     // {%
  kTagEnd,       // %}
  kName,         // keywords are names, too
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,  // of the template
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  Position position;
  // kText: the text; kString: what the literal stands for; the others: as written.
  std::string text;
  int64_t integer = 0;  // kInteger
};

// How an error speaks of `token`.
std::string Describe(const Token& token);

// Not thread-safe; belongs to one parser.
//
// Tokens are made one at a time, so that of two faults the earlier one is reported. White space is
// what Jinja makes of it with trim_blocks and lstrip_blocks on and keep_trailing_newline off:
//   {%- {{- {#-   remove all white space before;  -%} -}} -#}  all white space after
//   {% {#         remove the blanks before it if it is the first thing in its line
//   %} #}         remove one line break after it
//   {%+ {#+ and +%} +#}  leave what is before, or after, as it is
// and one line break at the very end of the template is dropped.
class Lexer {
 public:
  // INVALID_ARGUMENT if `source` is longer than kMaxSourceBytes or not UTF-8.
  static absl::StatusOr<Lexer> Create(absl::string_view source);

  // The next token; kEnd again and again at the end. INVALID_ARGUMENT or UNIMPLEMENTED, naming the
  // place, for what cannot be a token; not to be called again after that.
  absl::StatusOr<Token> Next();

 private:
  enum class State { kText, kOutput, kTag };

  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::string_view Rest() const { return absl::string_view(source_).substr(offset_); }
  // Moves on by `num_bytes`, keeping count of lines and columns.
  void Skip(size_t num_bytes);
  Token TakeToken(TokenKind kind, size_t num_bytes);

  absl::StatusOr<Token> NextOfText();
  absl::StatusOr<Token> NextInTag();
  // The text in front of the tag that begins with `mark` and `sign`, shortened by white-space
  // control.
  absl::string_view TextBeforeTag(absl::string_view text, char mark, char sign) const;
  absl::Status SkipComment();
  // The length of the end of the tag at the current place, white space that it removes included;
  // 0 if it does not end here.
  size_t EndOfTag() const;
  absl::StatusOr<Token> TakeNumber();
  absl::StatusOr<Token> TakeString();
  absl::StatusOr<Token> TakeOperator();

  std::string source_;  // line breaks are \n
  size_t offset_ = 0;
  Position position_;
  State state_ = State::kText;
  // Whether the last token ended with a line break, or there was none yet.
  bool at_line_start_ = true;
  // The closing brackets that are due: within brackets, }} and %} do not end a tag.
  std::vector<char> open_brackets_;
};

}  // namespace sluice::tokenizer::jinja
