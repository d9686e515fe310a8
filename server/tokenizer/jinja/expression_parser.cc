#include "tokenizer/jinja/expression_parser.h"

#include <algorithm>
#include <memory>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tokenizer/jinja/unsupported.h"

namespace sluice::tokenizer::jinja {
namespace {

template <typename Node>
ExpressionPtr New(Position position, Node node) {
  return std::make_unique<const Expression>(Expression{position, std::move(node)});
}

}  // namespace

absl::StatusOr<ExpressionPtr> ExpressionParser::Parse(Place place) {
  ASSIGN_OR_RETURN(ExpressionPtr expression, ParseComparison());
  if (tokens_.AtName("not")) return RefuseNotAfterOperand();
  if ((tokens_.AtKind(TokenKind::kOperator) || tokens_.AtKind(TokenKind::kName)) &&
      IsUnsupportedOperator(tokens_.current().text)) {
    return RefuseOperator("the operator");
  }
  if (tokens_.AtName("if") && place == Place::kOutput) {
    return tokens_.Unsupported("the conditional expression 'if'");
  }
  if (tokens_.AtOperator(",")) return tokens_.Unsupported("a tuple");
  return expression;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseComparison() {
  const Position position = tokens_.position();
  ASSIGN_OR_RETURN(ExpressionPtr first, ParseSum());
  if (!tokens_.AtOperator("==")) return first;
  Comparison comparison{std::move(first)};
  while (tokens_.AtOperator("==")) {
    RETURN_IF_ERROR(tokens_.Advance());
    ASSIGN_OR_RETURN(ExpressionPtr operand, ParseSum());
    comparison.operands.push_back(std::move(operand));
  }
  return New(position, std::move(comparison));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseSum() {
  const Position position = tokens_.position();
  ASSIGN_OR_RETURN(ExpressionPtr first, ParsePostfix());
  if (!tokens_.AtOperator("+")) return first;
  Sum sum{std::move(first)};
  while (tokens_.AtOperator("+")) {
    const Position plus = tokens_.position();
    RETURN_IF_ERROR(tokens_.Advance());
    ASSIGN_OR_RETURN(ExpressionPtr term, ParsePostfix());
    sum.terms.push_back({plus, std::move(term)});
  }
  return New(position, std::move(sum));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParsePostfix() {
  const Position position = tokens_.position();
  ASSIGN_OR_RETURN(ExpressionPtr base, ParsePrimary());
  std::vector<Postfix::Step> steps;
  while (true) {
    if (tokens_.AtOperator(".")) {
      ASSIGN_OR_RETURN(Postfix::Step step, ParseAttribute());
      steps.push_back(std::move(step));
    } else if (tokens_.AtOperator("[")) {
      ASSIGN_OR_RETURN(Postfix::Step step, ParseSubscript());
      steps.push_back(std::move(step));
    } else if (tokens_.AtOperator("(")) {
      return RefuseCall(steps);
    } else if (tokens_.AtOperator("|")) {
      return RefuseFilter();
    } else if (tokens_.AtName("is")) {
      return RefuseTest();
    } else {
      break;
    }
  }
  if (steps.empty()) return base;
  return New(position, Postfix{std::move(base), std::move(steps)});
}

absl::StatusOr<Postfix::Step> ExpressionParser::ParseAttribute() {
  RETURN_IF_ERROR(tokens_.Advance());
  Postfix::Step step{tokens_.position()};
  if (tokens_.AtKind(TokenKind::kName)) {
    step.what = Postfix::Attribute{tokens_.current().text};
    RETURN_IF_ERROR(tokens_.Advance());
  } else if (tokens_.AtKind(TokenKind::kInteger)) {
    ASSIGN_OR_RETURN(ExpressionPtr key, ParseInteger(tokens_.position(), 1));
    step.what = Postfix::Subscript{std::move(key)};
  } else {
    return tokens_.Unexpected("a name or a number");
  }
  return step;
}

absl::StatusOr<Postfix::Step> ExpressionParser::ParseSubscript() {
  const Position position = tokens_.position();
  const TokenStream::Level level(tokens_);
  RETURN_IF_ERROR(tokens_.CheckNesting());
  RETURN_IF_ERROR(tokens_.Advance());
  if (tokens_.AtOperator(":")) return tokens_.Unsupported("a slice");
  if (tokens_.AtOperator("]")) return tokens_.Unsupported("an empty subscript");
  ASSIGN_OR_RETURN(ExpressionPtr key, Parse(Place::kOutput));
  if (tokens_.AtOperator(":")) return tokens_.Unsupported("a slice");
  if (!tokens_.AtOperator("]")) return tokens_.Unexpected("']'");
  RETURN_IF_ERROR(tokens_.Advance());
  return Postfix::Step{position, Postfix::Subscript{std::move(key)}};
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParsePrimary() {
  switch (tokens_.current().kind) {
    case TokenKind::kName:
      return ParseName();
    case TokenKind::kString:
      return ParseStrings();
    case TokenKind::kInteger:
      return ParseInteger(tokens_.position(), 1);
    case TokenKind::kFloat:
      return tokens_.Unsupported("a number with a fraction or an exponent");
    default:
      break;
  }
  if (tokens_.AtOperator("(")) return ParseParentheses();
  if (tokens_.AtOperator("-")) return ParseNegativeInteger();
  if (tokens_.AtOperator("+")) return RefuseOperator("the sign");
  if (tokens_.AtOperator("[")) return tokens_.Unsupported("a list");
  if (tokens_.AtOperator("{")) return tokens_.Unsupported("a dict");
  return tokens_.Unexpected("an expression");
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseName() {
  const Token token = tokens_.current();
  if (tokens_.AtName("not")) return RefuseOperator("the operator");
  if (tokens_.AtAnyName({"and", "or", "in", "is", "if", "else", "elif"}))
    return tokens_.Unexpected("an expression");
  RETURN_IF_ERROR(tokens_.Advance());
  if (token.text == "true" || token.text == "True") {
    return New(token.position, Literal{Value::Bool(true)});
  }
  if (token.text == "false" || token.text == "False") {
    return New(token.position, Literal{Value::Bool(false)});
  }
  if (token.text == "none" || token.text == "None") {
    return New(token.position, Literal{Value::None()});
  }
  if (tokens_.AtOperator("(")) {
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
absl::StatusOr<ExpressionPtr> ExpressionParser::ParseStrings() {
  const Position position = tokens_.position();
  std::string text;
  while (tokens_.AtKind(TokenKind::kString)) {
    text += tokens_.current().text;
    RETURN_IF_ERROR(tokens_.Advance());
  }
  return New(position, Literal{Value::String(std::move(text))});
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseInteger(Position position, int64_t sign) {
  const int64_t value = sign * tokens_.current().integer;
  RETURN_IF_ERROR(tokens_.Advance());
  return New(position, Literal{Value::Int(value)});
}

// The sign of a literal alone: -x, and -1[0], are more than that.
absl::StatusOr<ExpressionPtr> ExpressionParser::ParseNegativeInteger() {
  const Position position = tokens_.position();
  RETURN_IF_ERROR(tokens_.Advance());
  if (tokens_.AtKind(TokenKind::kInteger)) {
    ASSIGN_OR_RETURN(ExpressionPtr expression, ParseInteger(position, -1));
    if (!tokens_.AtOperator("[") && !tokens_.AtOperator(".")) return expression;
  } else if (tokens_.AtKind(TokenKind::kOutputEnd) || tokens_.AtKind(TokenKind::kTagEnd)) {
    return tokens_.Unexpected("an expression");
  }
  return UnsupportedAt(position, "the sign '-' before anything but an integer");
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseParentheses() {
  const Position position = tokens_.position();
  const TokenStream::Level level(tokens_);
  RETURN_IF_ERROR(tokens_.CheckNesting());
  RETURN_IF_ERROR(tokens_.Advance());
  if (tokens_.AtOperator(")")) return UnsupportedAt(position, "a tuple");
  ASSIGN_OR_RETURN(ExpressionPtr expression, Parse(Place::kOutput));
  if (!tokens_.AtOperator(")")) return tokens_.Unexpected("')'");
  RETURN_IF_ERROR(tokens_.Advance());
  return expression;
}

// A call of what `steps`, if there are any, led to.
absl::Status ExpressionParser::RefuseCall(const std::vector<Postfix::Step>& steps) const {
  if (!steps.empty()) {
    if (const auto* attribute = std::get_if<Postfix::Attribute>(&steps.back().what)) {
      return UnsupportedAt(steps.back().position,
                           absl::StrCat("a call of '", attribute->name, "'"));
    }
  }
  return tokens_.Unsupported("a call");
}

// An operator, unless nothing follows that it could be applied to: {{ x %} is no template at all.
absl::Status ExpressionParser::RefuseOperator(absl::string_view kind) {
  const Token token = tokens_.current();
  RETURN_IF_ERROR(tokens_.Advance());
  const bool at_operand =
      tokens_.AtKind(TokenKind::kOperator)
          ? tokens_.AtOperator("(") || tokens_.AtOperator("[") || tokens_.AtOperator("{") ||
                tokens_.AtOperator("-") || tokens_.AtOperator("+")
          : !tokens_.AtKind(TokenKind::kOutputEnd) && !tokens_.AtKind(TokenKind::kTagEnd) &&
                !tokens_.AtKind(TokenKind::kEnd);
  if (!at_operand) return tokens_.Unexpected("an expression");
  return UnsupportedAt(token.position, absl::StrCat(kind, " '", token.text, "'"));
}

absl::Status ExpressionParser::RefuseFilter() {
  const Position position = tokens_.position();
  RETURN_IF_ERROR(tokens_.Advance());
  if (!tokens_.AtKind(TokenKind::kName)) return tokens_.Unexpected("the name of a filter");
  return UnsupportedAt(position, absl::StrCat("the filter '", tokens_.current().text, "'"));
}

absl::Status ExpressionParser::RefuseTest() {
  const Position position = tokens_.position();
  RETURN_IF_ERROR(tokens_.Advance());
  const bool negated = tokens_.AtName("not");
  if (negated) RETURN_IF_ERROR(tokens_.Advance());
  if (!tokens_.AtKind(TokenKind::kName)) return tokens_.Unexpected("the name of a test");
  return UnsupportedAt(
      position, absl::StrCat("the test 'is ", negated ? "not " : "", tokens_.current().text, "'"));
}

// 'not' behind an expression.
absl::Status ExpressionParser::RefuseNotAfterOperand() {
  const Token token = tokens_.current();
  RETURN_IF_ERROR(tokens_.Advance());
  if (tokens_.AtName("in")) return UnsupportedAt(token.position, "the operator 'not in'");
  return InvalidAt(token.position, "unexpected 'not'");
}

}  // namespace sluice::tokenizer::jinja
