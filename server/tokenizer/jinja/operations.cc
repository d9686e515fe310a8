#include "tokenizer/jinja/operations.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tokenizer/jinja/unicode.h"

namespace sluice::tokenizer::jinja {
namespace {

using Kind = Value::Kind;

bool Contains(std::initializer_list<absl::string_view> names, absl::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Whether every value of Python type `kind` has an attribute `name`.
bool IsPythonAttribute(Kind kind, absl::string_view name) {
  if (name.size() > 4 && absl::StartsWith(name, "__") && absl::EndsWith(name, "__")) return true;
  switch (kind) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return Contains({"as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
                       "from_bytes", "imag", "is_integer", "numerator", "real", "to_bytes"},
                      name);
    case Kind::kFloat:
      return Contains(
          {"as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer", "real"}, name);
    case Kind::kString:
      return Contains(
          {"capitalize",   "casefold",    "center",    "count",      "encode",       "endswith",
           "expandtabs",   "find",        "format",    "format_map", "index",        "isalnum",
           "isalpha",      "isascii",     "isdecimal", "isdigit",    "isidentifier", "islower",
           "isnumeric",    "isprintable", "isspace",   "istitle",    "isupper",      "join",
           "ljust",        "lower",       "lstrip",    "maketrans",  "partition",    "removeprefix",
           "removesuffix", "replace",     "rfind",     "rindex",     "rjust",        "rpartition",
           "rsplit",       "rstrip",      "split",     "splitlines", "startswith",   "strip",
           "swapcase",     "title",       "translate", "upper",      "zfill"},
          name);
    case Kind::kList:
      return Contains({"append", "clear", "copy", "count", "extend", "index", "insert", "pop",
                       "remove", "reverse", "sort"},
                      name);
    case Kind::kDict:
      return Contains({"clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem",
                       "setdefault", "update", "values"},
                      name);
  }
  return false;
}

absl::Status UndefinedError(const Value& value) {
  return absl::InvalidArgumentError(value.undefined_what());
}

absl::Status PythonAttributeError(const Value& object, absl::string_view name) {
  return absl::UnimplementedError(
      absl::StrCat("the attribute '", name, "' of a ", object.TypeName(), " is not supported"));
}

Value NoSuch(const Value& object, absl::string_view key) {
  return Value::Undefined(absl::StrCat("a ", object.TypeName(), " has no ", key));
}

// bool counts as int.
std::optional<int64_t> AsInt(const Value& value) {
  if (value.is(Kind::kBool)) return value.as_bool() ? 1 : 0;
  if (value.is(Kind::kInt)) return value.as_int();
  return std::nullopt;
}

std::optional<double> AsDouble(const Value& value) {
  if (value.is(Kind::kFloat)) return value.as_float();
  if (const auto i = AsInt(value)) return static_cast<double>(*i);
  return std::nullopt;
}

std::string DescribeKey(const Value& key) {
  constexpr size_t kMaxBytes = 80;
  if (key.is(Kind::kString) && key.as_string().size() <= kMaxBytes) {
    return absl::StrCat("'", key.as_string(), "'");
  }
  if (const auto i = AsInt(key)) return absl::StrCat("element ", *i);
  return absl::StrCat("entry for that ", key.TypeName());
}

}  // namespace

absl::StatusOr<Value> Add(const Value& a, const Value& b) {
  if (a.is(Kind::kUndefined)) return UndefinedError(a);
  if (b.is(Kind::kUndefined)) return UndefinedError(b);
  if (a.is(Kind::kString) && b.is(Kind::kString)) {
    return Value::String(absl::StrCat(a.as_string(), b.as_string()));
  }
  if (a.is(Kind::kList) && b.is(Kind::kList)) {
    Value::Elements elements = a.elements();
    elements.insert(elements.end(), b.elements().begin(), b.elements().end());
    return Value::List(std::move(elements));
  }
  const auto x = AsInt(a);
  const auto y = AsInt(b);
  if (x.has_value() && y.has_value()) {
    int64_t sum = 0;
    if (__builtin_add_overflow(*x, *y, &sum)) {
      return absl::InvalidArgumentError("a sum does not fit into 64 bits");
    }
    return Value::Int(sum);
  }
  const auto p = AsDouble(a);
  const auto q = AsDouble(b);
  if (p.has_value() && q.has_value()) return Value::Float(*p + *q);
  return absl::InvalidArgumentError(
      absl::StrCat("cannot add a ", b.TypeName(), " to a ", a.TypeName()));
}

absl::StatusOr<Value> GetAttribute(const Value& object, const std::string& name) {
  if (object.is(Kind::kUndefined)) return UndefinedError(object);
  if (IsPythonAttribute(object.kind(), name)) return PythonAttributeError(object, name);
  if (object.is(Kind::kDict)) {
    if (const Value* entry = object.Find(Value::String(name))) return *entry;
  }
  return NoSuch(object, absl::StrCat("'", name, "'"));
}

absl::StatusOr<Value> GetItem(const Value& object, const Value& key) {
  if (object.is(Kind::kUndefined)) return UndefinedError(object);
  if (object.is(Kind::kDict)) {
    if (const Value* entry = object.Find(key)) return *entry;
  } else if (const auto index = AsInt(key)) {
    if (object.is(Kind::kString)) {
      if (const auto character = CharacterAt(object.as_string(), *index)) {
        return Value::String(std::string(*character));
      }
    } else if (object.is(Kind::kList)) {
      const auto& elements = object.elements();
      const auto size = static_cast<int64_t>(elements.size());
      const int64_t i = *index < 0 ? *index + size : *index;
      if (i >= 0 && i < size) return elements[static_cast<size_t>(i)];
    }
  }
  if (key.is(Kind::kString) && IsPythonAttribute(object.kind(), key.as_string())) {
    return PythonAttributeError(object, key.as_string());
  }
  return NoSuch(object, DescribeKey(key));
}

absl::StatusOr<Iterator> Iterator::Over(Value value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kDict:
      return Iterator(std::move(value));
    default:
      return absl::InvalidArgumentError(absl::StrCat("'for' cannot run over a ", value.TypeName()));
  }
}

std::optional<Value> Iterator::Next() {
  switch (value_.kind()) {
    case Kind::kString: {
      const absl::string_view rest = absl::string_view(value_.as_string()).substr(next_);
      if (rest.empty()) return std::nullopt;
      const size_t num_bytes = FirstCharacter(rest).num_bytes;
      next_ += num_bytes;
      return Value::String(std::string(rest.substr(0, num_bytes)));
    }
    case Kind::kList:
      if (next_ == value_.elements().size()) return std::nullopt;
      return value_.elements()[next_++];
    case Kind::kDict:
      if (next_ == value_.entries().size()) return std::nullopt;
      return value_.entries()[next_++].first;
    default:
      return std::nullopt;
  }
}

}  // namespace sluice::tokenizer::jinja
