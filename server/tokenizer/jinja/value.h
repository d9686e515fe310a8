// The values that a template computes with, as Python has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"

namespace sluice::tokenizer::jinja {

// Immutable; copies are cheap and share strings, lists and dicts. May be read from any thread.
class Value {
 public:
  enum class Kind { kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kDict };

  using Elements = std::vector<Value>;
  // In order of insertion; no key occurs twice.
  using Entries = std::vector<std::pair<Value, Value>>;

  // Undefined.
  Value() = default;

  // What a name or a look-up that finds nothing gives; `what` says so in errors ("'x' is
  // undefined").
  static Value Undefined(std::string what);
  static Value None();
  static Value Bool(bool value);
  static Value Int(int64_t value);
  static Value Float(double value);
  static Value String(std::string value);
  static Value List(Elements elements);
  static Value Dict(Entries entries);

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is(Kind k) const { return kind() == k; }

  // REQUIRES: the value is of that kind.
  absl::string_view undefined_what() const;
  bool as_bool() const { return std::get<bool>(data_); }
  int64_t as_int() const { return std::get<int64_t>(data_); }
  double as_float() const { return std::get<double>(data_); }
  const std::string& as_string() const { return *std::get<StringPtr>(data_); }
  const Elements& elements() const { return std::get<ListPtr>(data_)->contents; }
  const Entries& entries() const { return std::get<DictPtr>(data_)->contents; }

  // The entry of a dict, nullptr if there is none. Time is linear: the dicts of templates are
  // small. REQUIRES: is(kDict)
  const Value* Find(const Value& key) const;

  // Roughly how many bytes the value has with all that it holds: what comparing it may cost.
  size_t weight() const;

  // Whether `if` takes the value for true.
  bool Truthy() const;

  // Python's name of the type, for errors.
  absl::string_view TypeName() const;

  // Python's ==: numbers and bools by value, lists and dicts by their contents.
  friend bool operator==(const Value& a, const Value& b);

 private:
  struct UndefinedData {
    std::shared_ptr<const std::string> what;
  };
  struct NoneData {};
  using StringPtr = std::shared_ptr<const std::string>;
  template <typename Contents>
  struct Container {
    Contents contents;
    size_t weight = 0;
  };
  using ListPtr = std::shared_ptr<const Container<Elements>>;
  using DictPtr = std::shared_ptr<const Container<Entries>>;
  // In the order of Kind.
  using Data =
      std::variant<UndefinedData, NoneData, bool, int64_t, double, StringPtr, ListPtr, DictPtr>;

  explicit Value(Data data) : data_(std::move(data)) {}

  Data data_;
};

// Appends `value` to `text` as {{ }} prints it, Python's str(). False, with `text` incomplete, if
// it would become longer than `max_bytes`.
bool AppendPrinted(const Value& value, size_t max_bytes, std::string& text);

}  // namespace sluice::tokenizer::jinja
