#include "tokenizer/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "tokenizer/jinja/lexer.h"
#include "tokenizer/jinja/unsupported.h"

namespace sluice::tokenizer::jinja {
namespace {

// Jinja's grammar by recursive descent, one method for each rule that has one here.
class Parser {
 public:
  explicit Parser(Lexer lexer) : lexer_(std::move(lexer)) {}

  absl::StatusOr<Body> ParseTemplate() {
    RETURN_IF_ERROR(Advance());
    ASSIGN_OR_RETURN(Body body, ParseBody({}, Position()));
    return body;
  }

 private:
  using Names = std::initializer_list<absl::string_view>;

  // Counts one level of nesting for as long as it lives.
  class Level {
   public:
    explicit Level(int& nesting) : nesting_(nesting) { ++nesting_; }
    ~Level() { --nesting_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    int& nesting_;
  };

  absl::Status Advance() {
    ASSIGN_OR_RETURN(current_, lexer_.Next());
    return absl::OkStatus();
  }

  bool AtKind(TokenKind kind) const { return current_.kind == kind; }
  bool AtName(absl::string_view name) const {
    return AtKind(TokenKind::kName) && current_.text == name;
  }
  bool AtOperator(absl::string_view text) const {
    return AtKind(TokenKind::kOperator) && current_.text == text;
  }
  bool AtAnyName(Names names) const {
    return AtKind(TokenKind::kName) &&
           std::find(names.begin(), names.end(), current_.text) != names.end();
  }

  absl::Status Unexpected(absl::string_view expected) const {
    return InvalidAt(current_.position,
                     absl::StrCat("expected ", expected, ", but there is ", Describe(current_)));
  }
  absl::Status Unsupported(absl::string_view construct) const {
    return UnsupportedAt(current_.position, construct);
  }
  absl::Status CheckNesting() const {
    if (nesting_ <= kMaxNesting) return absl::OkStatus();
    return InvalidAt(current_.position,
                     absl::StrCat("nested more than ", kMaxNesting, " levels deep"));
  }

  absl::StatusOr<Body> ParseBody(Names ends, Position opened);
  absl::StatusOr<Body> ParseBlock(Names ends, Position opened);
  absl::Status ParseStatement(Body& body);
  absl::StatusOr<If> ParseIf();
  absl::StatusOr<For> ParseFor();
  absl::StatusOr<std::string> ParseForTarget();
  absl::Status ExpectTagEnd();

  absl::StatusOr<ExpressionPtr> ParseTuple(bool in_condition);
  absl::StatusOr<ExpressionPtr> ParseExpression(bool in_condition);
  absl::StatusOr<ExpressionPtr> ParseComparison();
  absl::StatusOr<ExpressionPtr> ParseSum();
  absl::StatusOr<ExpressionPtr> ParsePostfix();
  absl::StatusOr<Postfix::Step> ParseAttribute();
  absl::StatusOr<Postfix::Step> ParseSubscript();
  absl::StatusOr<ExpressionPtr> ParsePrimary();
  absl::StatusOr<ExpressionPtr> ParseName();
  absl::StatusOr<ExpressionPtr> ParseStrings();
  absl::StatusOr<ExpressionPtr> ParseInteger(Position position, int64_t sign);
  absl::StatusOr<ExpressionPtr> ParseNegativeInteger();
  absl::StatusOr<ExpressionPtr> ParseParentheses();
  absl::Status RefuseCall(const std::vector<Postfix::Step>& steps) const;
  absl::Status RefuseFilter();
  absl::Status RefuseTest();
  absl::Status RefuseNot();

  Lexer lexer_;
  Token current_;
  int nesting_ = 0;
  std::vector<std::string> targets_;  // of the for loops around the current place
};

template <typename Node>
ExpressionPtr New(Position position, Node node) {
  return std::make_unique<const Expression>(Expression{position, std::move(node)});
}

template <typename Node>
void Append(Node node, Body& body) {
  body.emplace_back().node.template emplace<Node>(std::move(node));
}

// Up to one of the tags `ends`, whose name is then the current token; without `ends`, up to the end
// of the template. `opened` is where the block begins.
absl::StatusOr<Body> Parser::ParseBody(Names ends, Position opened) {
  Body body;
  while (true) {
    switch (current_.kind) {
      case TokenKind::kEnd:
        if (ends.size() == 0) return body;
        return InvalidAt(opened, absl::StrCat("the block has no ", absl::StrJoin(ends, ", ")));
      case TokenKind::kText:
        Append(Text{std::move(current_.text)}, body);
        RETURN_IF_ERROR(Advance());
        break;
      case TokenKind::kOutputBegin: {
        RETURN_IF_ERROR(Advance());
        ASSIGN_OR_RETURN(ExpressionPtr value, ParseTuple(/*in_condition=*/false));
        if (!AtKind(TokenKind::kOutputEnd)) return Unexpected("'}}'");
        Append(Output{std::move(value)}, body);
        RETURN_IF_ERROR(Advance());
        break;
      }
      default:  // only a tag can begin here
        RETURN_IF_ERROR(Advance());
        if (AtAnyName(ends)) return body;
        RETURN_IF_ERROR(ParseStatement(body));
    }
  }
}

// The rest of a tag that opens a block, and the block's body.
absl::StatusOr<Body> Parser::ParseBlock(Names ends, Position opened) {
  if (AtOperator(":")) RETURN_IF_ERROR(Advance());
  RETURN_IF_ERROR(ExpectTagEnd());
  const Level level(nesting_);
  RETURN_IF_ERROR(CheckNesting());
  return ParseBody(ends, opened);
}

absl::Status Parser::ParseStatement(Body& body) {
  if (!AtKind(TokenKind::kName)) return Unexpected("the name of a statement");
  if (AtName("if")) {
    ASSIGN_OR_RETURN(If statement, ParseIf());
    Append(std::move(statement), body);
  } else if (AtName("for")) {
    ASSIGN_OR_RETURN(For statement, ParseFor());
    Append(std::move(statement), body);
  } else if (IsUnsupportedStatement(current_.text)) {
    return Unsupported(absl::StrCat("the statement '", current_.text, "'"));
  } else {
    return InvalidAt(current_.position,
                     absl::StrCat("there is no statement '", current_.text, "' here"));
  }
  return ExpectTagEnd();
}

absl::Status Parser::ExpectTagEnd() {
  if (!AtKind(TokenKind::kTagEnd)) return Unexpected("'%}'");
  return Advance();
}

absl::StatusOr<If> Parser::ParseIf() {
  const Position opened = current_.position;
  If statement;
  while (AtAnyName({"if", "elif"})) {
    RETURN_IF_ERROR(Advance());
    ASSIGN_OR_RETURN(ExpressionPtr condition, ParseTuple(/*in_condition=*/true));
    ASSIGN_OR_RETURN(Body body, ParseBlock({"elif", "else", "endif"}, opened));
    statement.branches.push_back({std::move(condition), std::move(body)});
  }
  if (AtName("else")) {
    RETURN_IF_ERROR(Advance());
    ASSIGN_OR_RETURN(statement.otherwise, ParseBlock({"endif"}, opened));
  }
  RETURN_IF_ERROR(Advance());
  return statement;
}

absl::StatusOr<For> Parser::ParseFor() {
  const Position opened = current_.position;
  RETURN_IF_ERROR(Advance());
  For statement;
  ASSIGN_OR_RETURN(statement.target, ParseForTarget());
  RETURN_IF_ERROR(Advance());
  ASSIGN_OR_RETURN(statement.iterable, ParseTuple(/*in_condition=*/true));
  if (AtName("if")) return Unsupported("a 'for' with an 'if'");
  if (AtName("recursive")) return Unsupported("a recursive 'for'");
  targets_.push_back(statement.target);
  ASSIGN_OR_RETURN(statement.body, ParseBlock({"else", "endfor"}, opened));
  targets_.pop_back();
  if (AtName("else")) return Unsupported("a 'for' with an 'else'");
  RETURN_IF_ERROR(Advance());
  return statement;
}

// Leaves 'in' as the current token.
absl::StatusOr<std::string> Parser::ParseForTarget() {
  if (AtOperator("(")) return Unsupported("a 'for' with a tuple as its target");
  if (!AtKind(TokenKind::kName) || AtAnyName({"true", "True", "false", "False", "none", "None"})) {
    return Unexpected("a name");
  }
  if (AtName("loop")) return InvalidAt(current_.position, "'loop' cannot be the target of a 'for'");
  std::string target = current_.text;
  RETURN_IF_ERROR(Advance());
  if (AtOperator(",")) return Unsupported("a 'for' with a tuple as its target");
  if (!AtName("in")) return Unexpected("'in'");
  return target;
}

// An expression where Jinja would take a tuple without parentheses, too. `in_condition`: a
// conditional expression cannot stand here.
absl::StatusOr<ExpressionPtr> Parser::ParseTuple(bool in_condition) {
  ASSIGN_OR_RETURN(ExpressionPtr expression, ParseExpression(in_condition));
  if (AtOperator(",")) return Unsupported("a tuple");
  return expression;
}

absl::StatusOr<ExpressionPtr> Parser::ParseExpression(bool in_condition) {
  ASSIGN_OR_RETURN(ExpressionPtr expression, ParseComparison());
  if (AtName("not")) return RefuseNot();
  if ((AtKind(TokenKind::kOperator) || AtKind(TokenKind::kName)) &&
      IsUnsupportedOperator(current_.text)) {
    return Unsupported(absl::StrCat("the operator '", current_.text, "'"));
  }
  if (AtName("if") && !in_condition) return Unsupported("the conditional expression 'if'");
  return expression;
}

absl::StatusOr<ExpressionPtr> Parser::ParseComparison() {
  const Position position = current_.position;
  ASSIGN_OR_RETURN(ExpressionPtr first, ParseSum());
  if (!AtOperator("==")) return first;
  Comparison comparison{std::move(first)};
  while (AtOperator("==")) {
    RETURN_IF_ERROR(Advance());
    ASSIGN_OR_RETURN(ExpressionPtr operand, ParseSum());
    comparison.operands.push_back(std::move(operand));
  }
  return New(position, std::move(comparison));
}

absl::StatusOr<ExpressionPtr> Parser::ParseSum() {
  const Position position = current_.position;
  ASSIGN_OR_RETURN(ExpressionPtr first, ParsePostfix());
  if (!AtOperator("+")) return first;
  Sum sum{std::move(first)};
  while (AtOperator("+")) {
    const Position plus = current_.position;
    RETURN_IF_ERROR(Advance());
    ASSIGN_OR_RETURN(ExpressionPtr term, ParsePostfix());
    sum.terms.push_back({plus, std::move(term)});
  }
  return New(position, std::move(sum));
}

absl::StatusOr<ExpressionPtr> Parser::ParsePostfix() {
  const Position position = current_.position;
  ASSIGN_OR_RETURN(ExpressionPtr base, ParsePrimary());
  std::vector<Postfix::Step> steps;
  while (true) {
    if (AtOperator(".")) {
      ASSIGN_OR_RETURN(Postfix::Step step, ParseAttribute());
      steps.push_back(std::move(step));
    } else if (AtOperator("[")) {
      ASSIGN_OR_RETURN(Postfix::Step step, ParseSubscript());
      steps.push_back(std::move(step));
    } else if (AtOperator("(")) {
      return RefuseCall(steps);
    } else if (AtOperator("|")) {
      return RefuseFilter();
    } else if (AtName("is")) {
      return RefuseTest();
    } else {
      break;
    }
  }
  if (steps.empty()) return base;
  return New(position, Postfix{std::move(base), std::move(steps)});
}

absl::StatusOr<Postfix::Step> Parser::ParseAttribute() {
  RETURN_IF_ERROR(Advance());
  Postfix::Step step{current_.position};
  if (AtKind(TokenKind::kName)) {
    step.what = Postfix::Attribute{current_.text};
    RETURN_IF_ERROR(Advance());
  } else if (AtKind(TokenKind::kInteger)) {
    ASSIGN_OR_RETURN(ExpressionPtr key, ParseInteger(current_.position, 1));
    step.what = Postfix::Subscript{std::move(key)};
  } else {
    return Unexpected("a name or a number");
  }
  return step;
}

absl::StatusOr<Postfix::Step> Parser::ParseSubscript() {
  const Position position = current_.position;
  const Level level(nesting_);
  RETURN_IF_ERROR(CheckNesting());
  RETURN_IF_ERROR(Advance());
  if (AtOperator(":")) return Unsupported("a slice");
  ASSIGN_OR_RETURN(ExpressionPtr key, ParseTuple(/*in_condition=*/false));
  if (AtOperator(":")) return Unsupported("a slice");
  if (!AtOperator("]")) return Unexpected("']'");
  RETURN_IF_ERROR(Advance());
  return Postfix::Step{position, Postfix::Subscript{std::move(key)}};
}

absl::StatusOr<ExpressionPtr> Parser::ParsePrimary() {
  switch (current_.kind) {
    case TokenKind::kName:
      return ParseName();
    case TokenKind::kString:
      return ParseStrings();
    case TokenKind::kInteger:
      return ParseInteger(current_.position, 1);
    case TokenKind::kFloat:
      return Unsupported("a number with a fraction or an exponent");
    default:
      break;
  }
  if (AtOperator("(")) return ParseParentheses();
  if (AtOperator("-")) return ParseNegativeInteger();
  if (AtOperator("+")) return Unsupported("the sign '+'");
  if (AtOperator("[")) return Unsupported("a list");
  if (AtOperator("{")) return Unsupported("a dict");
  return Unexpected("an expression");
}

absl::StatusOr<ExpressionPtr> Parser::ParseName() {
  const Token token = current_;
  if (AtName("not")) return Unsupported("the operator 'not'");
  if (AtAnyName({"and", "or", "in", "is", "if", "else", "elif"}))
    return Unexpected("an expression");
  RETURN_IF_ERROR(Advance());
  if (token.text == "true" || token.text == "True") {
    return New(token.position, Literal{Value::Bool(true)});
  }
  if (token.text == "false" || token.text == "False") {
    return New(token.position, Literal{Value::Bool(false)});
  }
  if (token.text == "none" || token.text == "None") {
    return New(token.position, Literal{Value::None()});
  }
  if (AtOperator("(")) {
    return UnsupportedAt(token.position, absl::StrCat("a call of '", token.text, "'"));
  }
  if (token.text == "loop" && !targets_.empty()) {
    return UnsupportedAt(token.position, "the variable 'loop'");
  }
  if (IsGlobalFunction(token.text) &&
      std::find(targets_.begin(), targets_.end(), token.text) == targets_.end()) {
    return UnsupportedAt(token.position, absl::StrCat("the function '", token.text, "'"));
  }
  return New(token.position, Name{token.text});
}

// String literals side by side are one.
absl::StatusOr<ExpressionPtr> Parser::ParseStrings() {
  const Position position = current_.position;
  std::string text;
  while (AtKind(TokenKind::kString)) {
    text += current_.text;
    RETURN_IF_ERROR(Advance());
  }
  return New(position, Literal{Value::String(std::move(text))});
}

absl::StatusOr<ExpressionPtr> Parser::ParseInteger(Position position, int64_t sign) {
  const int64_t value = sign * current_.integer;
  RETURN_IF_ERROR(Advance());
  return New(position, Literal{Value::Int(value)});
}

// The sign of a literal alone: -x, and -1[0], are more than that.
absl::StatusOr<ExpressionPtr> Parser::ParseNegativeInteger() {
  const Position position = current_.position;
  RETURN_IF_ERROR(Advance());
  if (AtKind(TokenKind::kInteger)) {
    ASSIGN_OR_RETURN(ExpressionPtr expression, ParseInteger(position, -1));
    if (!AtOperator("[") && !AtOperator(".")) return expression;
  }
  return UnsupportedAt(position, "the sign '-' before anything but an integer");
}

absl::StatusOr<ExpressionPtr> Parser::ParseParentheses() {
  const Position position = current_.position;
  const Level level(nesting_);
  RETURN_IF_ERROR(CheckNesting());
  RETURN_IF_ERROR(Advance());
  if (AtOperator(")")) return UnsupportedAt(position, "a tuple");
  ASSIGN_OR_RETURN(ExpressionPtr expression, ParseTuple(/*in_condition=*/false));
  if (!AtOperator(")")) return Unexpected("')'");
  RETURN_IF_ERROR(Advance());
  return expression;
}

// A call of what `steps`, if there are any, led to.
absl::Status Parser::RefuseCall(const std::vector<Postfix::Step>& steps) const {
  if (!steps.empty()) {
    if (const auto* attribute = std::get_if<Postfix::Attribute>(&steps.back().what)) {
      return UnsupportedAt(steps.back().position,
                           absl::StrCat("a call of '", attribute->name, "'"));
    }
  }
  return Unsupported("a call");
}

absl::Status Parser::RefuseFilter() {
  const Position position = current_.position;
  RETURN_IF_ERROR(Advance());
  if (!AtKind(TokenKind::kName)) return Unexpected("the name of a filter");
  return UnsupportedAt(position, absl::StrCat("the filter '", current_.text, "'"));
}

absl::Status Parser::RefuseTest() {
  const Position position = current_.position;
  RETURN_IF_ERROR(Advance());
  const bool negated = AtName("not");
  if (negated) RETURN_IF_ERROR(Advance());
  if (!AtKind(TokenKind::kName)) return Unexpected("the name of a test");
  return UnsupportedAt(position,
                       absl::StrCat("the test 'is ", negated ? "not " : "", current_.text, "'"));
}

// 'not' behind an expression.
absl::Status Parser::RefuseNot() {
  const Token token = current_;
  RETURN_IF_ERROR(Advance());
  if (AtName("in")) return UnsupportedAt(token.position, "the operator 'not in'");
  return InvalidAt(token.position, "unexpected 'not'");
}

}  // namespace

absl::StatusOr<Body> Parse(absl::string_view source) {
  ASSIGN_OR_RETURN(Lexer lexer, Lexer::Create(source));
  return Parser(std::move(lexer)).ParseTemplate();
}

}  // namespace sluice::tokenizer::jinja
