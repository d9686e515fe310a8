// The tokens of a template as its parsers look at them: one at a time.
#pragma once

#include <initializer_list>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "tokenizer/jinja/diagnostics.h"
#include "tokenizer/jinja/lexer.h"

namespace sluice::tokenizer::jinja {

// Blocks, brackets and subscripts inside of each other.
inline constexpr int kMaxNesting = 100;

// Not thread-safe; shared by the parsers of one template.
class TokenStream {
 public:
  using Names = std::initializer_list<absl::string_view>;

  // Counts one level of nesting for as long as it lives; CheckNesting() says whether it is allowed.
  class Level {
   public:
    explicit Level(TokenStream& tokens) : tokens_(tokens) { ++tokens_.nesting_; }
    ~Level() { --tokens_.nesting_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    TokenStream& tokens_;
  };

  // Advance() comes first.
  explicit TokenStream(Lexer lexer) : lexer_(std::move(lexer)) {}

  // Makes the next token the current one.
  absl::Status Advance();

  const Token& current() const { return current_; }
  Position position() const { return current_.position; }

  bool AtKind(TokenKind kind) const { return current_.kind == kind; }
  bool AtOperator(absl::string_view text) const;
  bool AtName(absl::string_view name) const { return AtAnyName({name}); }
  bool AtAnyName(Names names) const;

  // INVALID_ARGUMENT: the current token is not what the grammar wants here.
  absl::Status Unexpected(absl::string_view expected) const;
  // UNIMPLEMENTED: the current token shows that this is `construct`.
  absl::Status Unsupported(absl::string_view construct) const;
  absl::Status CheckNesting() const;

 private:
  Lexer lexer_;
  Token current_;
  int nesting_ = 0;
};

}  // namespace sluice::tokenizer::jinja
