// Parses the expressions of a template.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/token_stream.h"

namespace sluice::tokenizer::jinja {

// Jinja's grammar by recursive descent, one method for each rule that has one here. Errors are
// those of Parse(). Not thread-safe; belongs to one parser.
class ExpressionParser {
 public:
  // Where an expression stands: in the head of a statement, Jinja allows no conditional expression.
  enum class Place { kOutput, kHead };

  // `tokens` must outlive this.
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  // Parses the expression that begins with the current token, and leaves the token after it as the
  // current one.
  absl::StatusOr<ExpressionPtr> Parse(Place place);

  // What follows is in the body of a loop over `target`, until the matching LeaveLoop().
  void EnterLoop(std::string target) { targets_.push_back(std::move(target)); }
  void LeaveLoop() { targets_.pop_back(); }

 private:
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

  absl::Status RefuseOperator(absl::string_view kind);
  absl::Status RefuseNotAfterOperand();
  absl::Status RefuseCall(const std::vector<Postfix::Step>& steps) const;
  absl::Status RefuseFilter();
  absl::Status RefuseTest();

  TokenStream& tokens_;
  std::vector<std::string> targets_;
};

}  // namespace sluice::tokenizer::jinja
