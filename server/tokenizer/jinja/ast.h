// The syntax tree of a template. A new part of the language is a new alternative of one of the
// variants here: whoever visits them does not compile until it handles that one too.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "tokenizer/jinja/diagnostics.h"
#include "tokenizer/jinja/value.h"

namespace sluice::tokenizer::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

struct Literal {
  Value value;
};

struct Name {
  std::string name;
};

// base.name, base[key]. The steps of a chain lie side by side rather than inside of each other, so
// that a long one needs no deep tree; the same goes for the operators below.
struct Postfix {
  struct Attribute {
    std::string name;
  };
  struct Subscript {
    ExpressionPtr key;
  };
  struct Step {
    Position position;
    std::variant<Attribute, Subscript> what;
  };
  ExpressionPtr base;
  std::vector<Step> steps;
};

// first + term + ..., from left to right.
struct Sum {
  struct Term {
    Position position;  // of the operator
    ExpressionPtr value;
  };
  ExpressionPtr first;
  std::vector<Term> terms;
};

// first == operand == ...: true if each neighbouring pair is equal.
struct Comparison {
  ExpressionPtr first;
  std::vector<ExpressionPtr> operands;
};

struct Expression {
  Position position;
  std::variant<Literal, Name, Postfix, Sum, Comparison> node;
};

struct Statement;
using Body = std::vector<Statement>;

struct Text {
  std::string text;
};

struct Output {
  ExpressionPtr value;
};

struct If {
  struct Branch {
    ExpressionPtr condition;
    Body body;
  };
  std::vector<Branch> branches;  // if and elif
  Body otherwise;
};

struct For {
  std::string target;
  ExpressionPtr iterable;
  Body body;
};

struct Statement {
  std::variant<Text, Output, If, For> node;
};

}  // namespace sluice::tokenizer::jinja
