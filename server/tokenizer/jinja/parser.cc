#include "tokenizer/jinja/parser.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tokenizer/jinja/expression_parser.h"
#include "tokenizer/jinja/lexer.h"
#include "tokenizer/jinja/token_stream.h"
#include "tokenizer/jinja/unsupported.h"

namespace sluice::tokenizer::jinja {
namespace {

// Text, output and statements, by recursive descent.
class Parser {
 public:
  explicit Parser(Lexer lexer) : tokens_(std::move(lexer)) {}

  absl::StatusOr<Body> ParseTemplate() {
    RETURN_IF_ERROR(tokens_.Advance());
    ASSIGN_OR_RETURN(Body body, ParseBody({}, Position()));
    return body;
  }

 private:
  using Names = TokenStream::Names;
  using Place = ExpressionParser::Place;

  absl::StatusOr<Body> ParseBody(Names ends, Position opened);
  absl::StatusOr<Body> ParseBlock(Names ends, Position opened);
  absl::Status ParseStatement(Body& body);
  absl::StatusOr<If> ParseIf();
  absl::StatusOr<For> ParseFor();
  absl::StatusOr<std::string> ParseForTarget();
  absl::Status ExpectTagEnd();

  TokenStream tokens_;
  ExpressionParser expressions_{tokens_};
};

template <typename Node>
void Append(Node node, Body& body) {
  body.emplace_back().node.template emplace<Node>(std::move(node));
}

// Up to one of the tags `ends`, whose name is then the current token; without `ends`, up to the end
// of the template. `opened` is where the block begins; the last of `ends` closes it.
absl::StatusOr<Body> Parser::ParseBody(Names ends, Position opened) {
  Body body;
  while (true) {
    switch (tokens_.current().kind) {
      case TokenKind::kEnd:
        if (ends.size() == 0) return body;
        return InvalidAt(opened, absl::StrCat("the block has no '", *(ends.end() - 1), "'"));
      case TokenKind::kText:
        Append(Text{tokens_.current().text}, body);
        RETURN_IF_ERROR(tokens_.Advance());
        break;
      case TokenKind::kOutputBegin: {
        RETURN_IF_ERROR(tokens_.Advance());
        ASSIGN_OR_RETURN(ExpressionPtr value, expressions_.Parse(Place::kOutput));
        if (!tokens_.AtKind(TokenKind::kOutputEnd)) return tokens_.Unexpected("'}}'");
        Append(Output{std::move(value)}, body);
        RETURN_IF_ERROR(tokens_.Advance());
        break;
      }
      default:  // only a tag can begin here
        RETURN_IF_ERROR(tokens_.Advance());
        if (tokens_.AtAnyName(ends)) return body;
        RETURN_IF_ERROR(ParseStatement(body));
    }
  }
}

// The rest of a tag that opens a block, and the block's body.
absl::StatusOr<Body> Parser::ParseBlock(Names ends, Position opened) {
  if (tokens_.AtOperator(":")) RETURN_IF_ERROR(tokens_.Advance());
  RETURN_IF_ERROR(ExpectTagEnd());
  const TokenStream::Level level(tokens_);
  RETURN_IF_ERROR(tokens_.CheckNesting());
  return ParseBody(ends, opened);
}

absl::Status Parser::ParseStatement(Body& body) {
  if (!tokens_.AtKind(TokenKind::kName)) return tokens_.Unexpected("the name of a statement");
  if (tokens_.AtName("if")) {
    ASSIGN_OR_RETURN(If statement, ParseIf());
    Append(std::move(statement), body);
  } else if (tokens_.AtName("for")) {
    ASSIGN_OR_RETURN(For statement, ParseFor());
    Append(std::move(statement), body);
  } else if (IsUnsupportedStatement(tokens_.current().text)) {
    return tokens_.Unsupported(absl::StrCat("the statement '", tokens_.current().text, "'"));
  } else {
    return InvalidAt(tokens_.position(),
                     absl::StrCat("there is no statement '", tokens_.current().text, "' here"));
  }
  return ExpectTagEnd();
}

absl::Status Parser::ExpectTagEnd() {
  if (!tokens_.AtKind(TokenKind::kTagEnd)) return tokens_.Unexpected("'%}'");
  return tokens_.Advance();
}

absl::StatusOr<If> Parser::ParseIf() {
  const Position opened = tokens_.position();
  If statement;
  while (tokens_.AtAnyName({"if", "elif"})) {
    RETURN_IF_ERROR(tokens_.Advance());
    ASSIGN_OR_RETURN(ExpressionPtr condition, expressions_.Parse(Place::kHead));
    ASSIGN_OR_RETURN(Body body, ParseBlock({"elif", "else", "endif"}, opened));
    statement.branches.push_back({std::move(condition), std::move(body)});
  }
  if (tokens_.AtName("else")) {
    RETURN_IF_ERROR(tokens_.Advance());
    ASSIGN_OR_RETURN(statement.otherwise, ParseBlock({"endif"}, opened));
  }
  RETURN_IF_ERROR(tokens_.Advance());
  return statement;
}

absl::StatusOr<For> Parser::ParseFor() {
  const Position opened = tokens_.position();
  RETURN_IF_ERROR(tokens_.Advance());
  For statement;
  ASSIGN_OR_RETURN(statement.target, ParseForTarget());
  RETURN_IF_ERROR(tokens_.Advance());
  ASSIGN_OR_RETURN(statement.iterable, expressions_.Parse(Place::kHead));
  if (tokens_.AtName("if")) return tokens_.Unsupported("a 'for' with an 'if'");
  if (tokens_.AtName("recursive")) return tokens_.Unsupported("a recursive 'for'");
  expressions_.EnterLoop(statement.target);
  ASSIGN_OR_RETURN(statement.body, ParseBlock({"else", "endfor"}, opened));
  expressions_.LeaveLoop();
  if (tokens_.AtName("else")) return tokens_.Unsupported("a 'for' with an 'else'");
  RETURN_IF_ERROR(tokens_.Advance());
  return statement;
}

// Leaves 'in' as the current token.
absl::StatusOr<std::string> Parser::ParseForTarget() {
  if (tokens_.AtOperator("(")) return tokens_.Unsupported("a 'for' with a tuple as its target");
  if (!tokens_.AtKind(TokenKind::kName) ||
      tokens_.AtAnyName({"true", "True", "false", "False", "none", "None"})) {
    return tokens_.Unexpected("a name");
  }
  if (tokens_.AtName("loop")) {
    return InvalidAt(tokens_.position(), "'loop' cannot be the target of a 'for'");
  }
  std::string target = tokens_.current().text;
  RETURN_IF_ERROR(tokens_.Advance());
  if (tokens_.AtOperator(",")) return tokens_.Unsupported("a 'for' with a tuple as its target");
  if (!tokens_.AtName("in")) return tokens_.Unexpected("'in'");
  return target;
}

}  // namespace

absl::StatusOr<Body> Parse(absl::string_view source) {
  ASSIGN_OR_RETURN(Lexer lexer, Lexer::Create(source));
  return Parser(std::move(lexer)).ParseTemplate();
}

}  // namespace sluice::tokenizer::jinja
