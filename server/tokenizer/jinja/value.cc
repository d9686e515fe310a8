#include "tokenizer/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace sluice::tokenizer::jinja {
namespace {

using Kind = Value::Kind;

bool IsNumber(const Value& value) {
  return value.is(Kind::kBool) || value.is(Kind::kInt) || value.is(Kind::kFloat);
}

int64_t ToInt(const Value& value) {
  return value.is(Kind::kBool) ? static_cast<int64_t>(value.as_bool()) : value.as_int();
}

// Exact, unlike a comparison after conversion to double.
bool EqualIntFloat(int64_t i, double d) {
  constexpr double kLimit = 9223372036854775808.0;  // 2^63
  return d >= -kLimit && d < kLimit && std::trunc(d) == d && static_cast<int64_t>(d) == i;
}

bool EqualNumbers(const Value& a, const Value& b) {
  if (a.is(Kind::kFloat) && b.is(Kind::kFloat)) return a.as_float() == b.as_float();
  if (a.is(Kind::kFloat)) return EqualIntFloat(ToInt(b), a.as_float());
  if (b.is(Kind::kFloat)) return EqualIntFloat(ToInt(a), b.as_float());
  return ToInt(a) == ToInt(b);
}

bool EqualEntries(const Value& a, const Value& b) {
  if (a.entries().size() != b.entries().size()) return false;
  return std::all_of(a.entries().begin(), a.entries().end(), [&](const auto& entry) {
    const Value* other = b.Find(entry.first);
    return other != nullptr && *other == entry.second;
  });
}

// A list may hold the same long text many times, so the sum may not fit.
size_t AddWeights(size_t a, size_t b) {
  return b > std::numeric_limits<size_t>::max() - a ? std::numeric_limits<size_t>::max() : a + b;
}

}  // namespace

Value Value::Undefined(std::string what) {
  return Value(Data(UndefinedData{std::make_shared<const std::string>(std::move(what))}));
}
Value Value::None() { return Value(Data(NoneData{})); }
Value Value::Bool(bool value) { return Value(Data(value)); }
Value Value::Int(int64_t value) { return Value(Data(value)); }
Value Value::Float(double value) { return Value(Data(value)); }
Value Value::String(std::string value) {
  return Value(Data(std::make_shared<const std::string>(std::move(value))));
}
Value Value::List(Elements elements) {
  size_t weight = 0;
  for (const Value& element : elements) weight = AddWeights(weight, element.weight());
  return Value(Data(ListPtr(new Container<Elements>{std::move(elements), weight})));
}
Value Value::Dict(Entries entries) {
  size_t weight = 0;
  for (const auto& [key, value] : entries) {
    weight = AddWeights(weight, AddWeights(key.weight(), value.weight()));
  }
  return Value(Data(DictPtr(new Container<Entries>{std::move(entries), weight})));
}

absl::string_view Value::undefined_what() const {
  const auto& what = std::get<UndefinedData>(data_).what;
  return what == nullptr ? absl::string_view("the value is undefined") : absl::string_view(*what);
}

const Value* Value::Find(const Value& key) const {
  for (const auto& [k, value] : entries()) {
    if (k == key) return &value;
  }
  return nullptr;
}

size_t Value::weight() const {
  switch (kind()) {
    case Kind::kString:
      return sizeof(Value) + as_string().size();
    case Kind::kList:
      return AddWeights(sizeof(Value), std::get<ListPtr>(data_)->weight);
    case Kind::kDict:
      return AddWeights(sizeof(Value), std::get<DictPtr>(data_)->weight);
    default:
      return sizeof(Value);
  }
}

bool Value::Truthy() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return as_bool();
    case Kind::kInt:
      return as_int() != 0;
    case Kind::kFloat:
      return as_float() != 0;
    case Kind::kString:
      return !as_string().empty();
    case Kind::kList:
      return !elements().empty();
    case Kind::kDict:
      return !entries().empty();
  }
  CHECK(false);
}

absl::string_view Value::TypeName() const {
  switch (kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return "list";
    case Kind::kDict:
      return "dict";
  }
  CHECK(false);
}

bool operator==(const Value& a, const Value& b) {
  if (IsNumber(a) && IsNumber(b)) return EqualNumbers(a, b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kString:
      return a.as_string() == b.as_string();
    case Kind::kList:
      return a.elements() == b.elements();
    case Kind::kDict:
      return EqualEntries(a, b);
    default:
      return true;
  }
}

}  // namespace sluice::tokenizer::jinja
