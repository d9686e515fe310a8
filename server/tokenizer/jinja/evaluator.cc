#include "tokenizer/jinja/evaluator.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tokenizer/jinja/operations.h"

namespace sluice::tokenizer::jinja {
namespace {

using Kind = Value::Kind;

constexpr size_t kBytesPerStep = 64;

// One run. The tree is no deeper than the parser's limit, and so is the recursion here.
class Evaluator {
 public:
  explicit Evaluator(const Variables& variables) : variables_(variables) {}

  absl::Status Run(const Body& body) {
    for (const Statement& statement : body) {
      RETURN_IF_ERROR(std::visit([this](const auto& node) { return Run(node); }, statement.node));
    }
    return absl::OkStatus();
  }

  std::string TakeOutput() && { return std::move(output_); }

 private:
  absl::Status Run(const Text& text);
  absl::Status Run(const Output& output);
  absl::Status Run(const If& statement);
  absl::Status Run(const For& statement);

  absl::StatusOr<Value> Eval(const Expression& expression) {
    RETURN_IF_ERROR(Charge(1));
    return std::visit([&](const auto& node) { return Eval(node, expression.position); },
                      expression.node);
  }
  absl::StatusOr<Value> Eval(const Literal& literal, Position) { return literal.value; }
  absl::StatusOr<Value> Eval(const Name& name, Position);
  absl::StatusOr<Value> Eval(const Postfix& postfix, Position);
  absl::StatusOr<Value> Eval(const Sum& sum, Position);
  absl::StatusOr<Value> Eval(const Comparison& comparison, Position);

  absl::StatusOr<Value> Apply(const Postfix::Attribute& attribute, const Value& object, Position);
  absl::StatusOr<Value> Apply(const Postfix::Subscript& subscript, const Value& object, Position);

  // Pays for `steps` of work.
  absl::Status Charge(size_t steps);
  absl::Status ChargeBytes(size_t num_bytes) { return Charge(num_bytes / kBytesPerStep); }
  // Pays for a walk over a value without what it holds in turn.
  absl::Status ChargeFor(const Value& value);

  const Variables& variables_;
  std::vector<std::pair<const std::string*, Value>> targets_;  // of loops, the innermost last
  std::string output_;
  int64_t steps_left_ = kMaxSteps;
};

absl::Status Evaluator::Charge(size_t steps) {
  if (steps > static_cast<size_t>(steps_left_)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the template needs more than ", kMaxSteps, " steps"));
  }
  steps_left_ -= static_cast<int64_t>(steps);
  return absl::OkStatus();
}

absl::Status Evaluator::ChargeFor(const Value& value) {
  if (value.is(Kind::kString)) return ChargeBytes(value.as_string().size());
  if (value.is(Kind::kList)) return Charge(value.elements().size());
  if (value.is(Kind::kDict)) return Charge(value.entries().size());
  return absl::OkStatus();
}

absl::Status OutputTooLong() {
  return absl::InvalidArgumentError(
      absl::StrCat("the text becomes longer than ", kMaxOutputBytes, " bytes"));
}

absl::Status Evaluator::Run(const Text& text) {
  RETURN_IF_ERROR(Charge(1));
  if (text.text.size() > kMaxOutputBytes - output_.size()) return OutputTooLong();
  output_ += text.text;
  return absl::OkStatus();
}

absl::Status Evaluator::Run(const Output& output) {
  ASSIGN_OR_RETURN(const Value value, Eval(*output.value));
  if (!AppendPrinted(value, kMaxOutputBytes, output_)) {
    return At(output.value->position, OutputTooLong());
  }
  return absl::OkStatus();
}

absl::Status Evaluator::Run(const If& statement) {
  for (const If::Branch& branch : statement.branches) {
    ASSIGN_OR_RETURN(const Value condition, Eval(*branch.condition));
    if (condition.Truthy()) return Run(branch.body);
  }
  return Run(statement.otherwise);
}

absl::Status Evaluator::Run(const For& statement) {
  ASSIGN_OR_RETURN(const Value iterable, Eval(*statement.iterable));
  absl::StatusOr<Iterator> iterator = Iterator::Over(iterable);
  if (!iterator.ok()) return At(statement.iterable->position, iterator.status());
  while (std::optional<Value> element = iterator->Next()) {
    RETURN_IF_ERROR(Charge(1));
    targets_.emplace_back(&statement.target, *std::move(element));
    RETURN_IF_ERROR(Run(statement.body));
    targets_.pop_back();
  }
  return absl::OkStatus();
}

absl::StatusOr<Value> Evaluator::Eval(const Name& name, Position) {
  for (auto target = targets_.rbegin(); target != targets_.rend(); ++target) {
    if (*target->first == name.name) return target->second;
  }
  const auto variable = variables_.find(name.name);
  if (variable != variables_.end()) return variable->second;
  return Value::Undefined(absl::StrCat("'", name.name, "' is undefined"));
}

absl::StatusOr<Value> Evaluator::Eval(const Postfix& postfix, Position) {
  ASSIGN_OR_RETURN(Value value, Eval(*postfix.base));
  for (const Postfix::Step& step : postfix.steps) {
    RETURN_IF_ERROR(Charge(1));
    ASSIGN_OR_RETURN(
        value,
        std::visit([&](const auto& what) { return Apply(what, value, step.position); }, step.what));
  }
  return value;
}

absl::StatusOr<Value> Evaluator::Apply(const Postfix::Attribute& attribute, const Value& object,
                                       Position position) {
  if (object.is(Kind::kDict)) RETURN_IF_ERROR(ChargeFor(object));
  absl::StatusOr<Value> value = GetAttribute(object, attribute.name);
  return value.ok() ? value : At(position, value.status());
}

absl::StatusOr<Value> Evaluator::Apply(const Postfix::Subscript& subscript, const Value& object,
                                       Position position) {
  ASSIGN_OR_RETURN(const Value key, Eval(*subscript.key));
  if (!object.is(Kind::kList)) RETURN_IF_ERROR(ChargeFor(object));
  absl::StatusOr<Value> value = GetItem(object, key);
  return value.ok() ? value : At(position, value.status());
}

// Strings side by side are joined in one buffer: added one after another, a long sum would take
// quadratic time.
absl::StatusOr<Value> Evaluator::Eval(const Sum& sum, Position) {
  ASSIGN_OR_RETURN(Value left, Eval(*sum.first));
  std::string joined;
  bool joining = false;
  for (const Sum::Term& term : sum.terms) {
    ASSIGN_OR_RETURN(const Value right, Eval(*term.value));
    RETURN_IF_ERROR(ChargeFor(right));
    if (left.is(Kind::kString) && right.is(Kind::kString)) {
      if (!joining) {
        RETURN_IF_ERROR(ChargeFor(left));
        joined = left.as_string();
        joining = true;
      }
      joined += right.as_string();
      if (joined.size() > kMaxOutputBytes) return At(term.position, OutputTooLong());
      continue;
    }
    RETURN_IF_ERROR(ChargeFor(left));
    absl::StatusOr<Value> result = Add(left, right);
    if (!result.ok()) return At(term.position, result.status());
    left = *std::move(result);
  }
  return joining ? Value::String(std::move(joined)) : left;
}

absl::StatusOr<Value> Evaluator::Eval(const Comparison& comparison, Position) {
  ASSIGN_OR_RETURN(Value left, Eval(*comparison.first));
  for (const ExpressionPtr& operand : comparison.operands) {
    ASSIGN_OR_RETURN(Value right, Eval(*operand));
    RETURN_IF_ERROR(ChargeBytes(std::min(left.weight(), right.weight())));
    if (!(left == right)) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

}  // namespace

absl::StatusOr<std::string> Evaluate(const Body& body, const Variables& variables) {
  Evaluator evaluator(variables);
  RETURN_IF_ERROR(evaluator.Run(body));
  return std::move(evaluator).TakeOutput();
}

}  // namespace sluice::tokenizer::jinja
