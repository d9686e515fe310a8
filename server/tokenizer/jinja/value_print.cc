// Python's str() and repr() of values.

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tokenizer/jinja/unicode.h"
#include "tokenizer/jinja/value.h"

namespace sluice::tokenizer::jinja {
namespace {

using Kind = Value::Kind;

// repr(float): the shortest digits that read back as the same number, with an exponent only
// outside of [1e-4, 1e16).
std::string PrintFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, std::fabs(value),
                                          std::chars_format::scientific);
  const absl::string_view scientific(buffer, static_cast<size_t>(end - buffer));
  const size_t e = scientific.find('e');
  const int exponent = std::atoi(std::string(scientific.substr(e + 1)).c_str());
  std::string digits(scientific.substr(0, 1));
  if (e > 2) absl::StrAppend(&digits, scientific.substr(2, e - 2));

  std::string text = std::signbit(value) ? "-" : "";
  const auto num_digits = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    text += digits[0];
    if (num_digits > 1) absl::StrAppend(&text, ".", digits.substr(1));
    absl::StrAppendFormat(&text, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
  } else if (exponent < 0) {
    absl::StrAppend(&text, "0.", std::string(static_cast<size_t>(-exponent - 1), '0'), digits);
  } else {
    if (num_digits < exponent + 2)
      digits.append(static_cast<size_t>(exponent + 2 - num_digits), '0');
    const auto point = static_cast<size_t>(exponent + 1);
    absl::StrAppend(&text, digits.substr(0, point), ".", digits.substr(point));
  }
  return text;
}

// Appends to a text up to a limit; once that is passed, everything else is dropped.
class LimitedText {
 public:
  LimitedText(size_t max_bytes, std::string& text) : max_bytes_(max_bytes), text_(text) {}

  bool ok() const { return ok_; }

  void Append(absl::string_view piece) {
    if (!ok_ || piece.size() > max_bytes_ || text_.size() > max_bytes_ - piece.size()) {
      ok_ = false;
      return;
    }
    text_.append(piece.data(), piece.size());
  }

 private:
  const size_t max_bytes_;
  std::string& text_;
  bool ok_ = true;
};

void AppendEscaped(char32_t c, LimitedText& out) {
  switch (c) {
    case '\n':
      return out.Append("\\n");
    case '\r':
      return out.Append("\\r");
    case '\t':
      return out.Append("\\t");
    default:
      break;
  }
  const auto value = static_cast<uint32_t>(c);
  if (value <= 0xFF) return out.Append(absl::StrFormat("\\x%02x", value));
  if (value <= 0xFFFF) return out.Append(absl::StrFormat("\\u%04x", value));
  out.Append(absl::StrFormat("\\U%08x", value));
}

void AppendStringRepr(absl::string_view text, LimitedText& out) {
  const bool has_single = text.find('\'') != absl::string_view::npos;
  const bool has_double = text.find('"') != absl::string_view::npos;
  const absl::string_view quote = has_single && !has_double ? "\"" : "'";
  out.Append(quote);
  while (!text.empty() && out.ok()) {
    const Character character = FirstCharacter(text);
    const absl::string_view bytes = text.substr(0, character.num_bytes);
    if (bytes == quote || bytes == "\\") {
      out.Append("\\");
      out.Append(bytes);
    } else if (IsPrintable(character.code_point)) {
      out.Append(bytes);
    } else {
      AppendEscaped(character.code_point, out);
    }
    text.remove_prefix(character.num_bytes);
  }
  out.Append(quote);
}

void AppendRepr(const Value& value, LimitedText& out) {
  absl::string_view separator;
  switch (value.kind()) {
    case Kind::kUndefined:
      return out.Append("Undefined");
    case Kind::kNone:
      return out.Append("None");
    case Kind::kBool:
      return out.Append(value.as_bool() ? "True" : "False");
    case Kind::kInt:
      return out.Append(absl::StrCat(value.as_int()));
    case Kind::kFloat:
      return out.Append(PrintFloat(value.as_float()));
    case Kind::kString:
      return AppendStringRepr(value.as_string(), out);
    case Kind::kList:
      out.Append("[");
      for (const Value& element : value.elements()) {
        if (!out.ok()) return;
        out.Append(separator);
        AppendRepr(element, out);
        separator = ", ";
      }
      return out.Append("]");
    case Kind::kDict:
      out.Append("{");
      for (const auto& [key, element] : value.entries()) {
        if (!out.ok()) return;
        out.Append(separator);
        AppendRepr(key, out);
        out.Append(": ");
        AppendRepr(element, out);
        separator = ", ";
      }
      return out.Append("}");
  }
}

}  // namespace

bool AppendPrinted(const Value& value, size_t max_bytes, std::string& text) {
  if (value.is(Kind::kUndefined)) return true;
  LimitedText out(max_bytes, text);
  if (value.is(Kind::kString)) {
    out.Append(value.as_string());
  } else {
    AppendRepr(value, out);
  }
  return out.ok();
}

}  // namespace sluice::tokenizer::jinja
