// What the operators of templates do to values, by Python's rules and Jinja's.
//
// All return INVALID_ARGUMENT, without a place, where Python or Jinja would raise.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "tokenizer/jinja/value.h"

namespace sluice::tokenizer::jinja {

// a + b: numbers, strings and lists.
absl::StatusOr<Value> Add(const Value& a, const Value& b);

// object.name: an attribute that Python gives every value of that type, otherwise the entry of a
// dict; undefined if there is neither. UNIMPLEMENTED for Python's attributes, which are methods.
absl::StatusOr<Value> GetAttribute(const Value& object, const std::string& name);

// object[key]: the entry of a dict, the element of a list or the character of a string, otherwise,
// if the key is a string, an attribute as above; undefined if there is none.
absl::StatusOr<Value> GetItem(const Value& object, const Value& key);

// Walks over what `for` runs over: the elements of a list, the characters of a string, the keys of
// a dict, nothing if undefined.
class Iterator {
 public:
  static absl::StatusOr<Iterator> Over(Value value);

  // nullopt at the end.
  std::optional<Value> Next();

 private:
  explicit Iterator(Value value) : value_(std::move(value)) {}

  Value value_;
  size_t next_ = 0;  // index of an element or entry, or byte of a string
};

}  // namespace sluice::tokenizer::jinja
