#include "tokenizer/jinja/lexer.h"

#include <array>
#include <charconv>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status_macros.h"
#include "tokenizer/jinja/string_literal.h"
#include "tokenizer/jinja/unicode.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer::jinja {
namespace {

constexpr size_t kNotFound = absl::string_view::npos;
constexpr size_t kMarkBytes = 2;  // {{, {%, {#, }}, %}, #}

// Where the next {{, {% or {# is.
size_t FindMark(absl::string_view text) {
  for (size_t i = text.find('{'); i != kNotFound; i = text.find('{', i + 1)) {
    if (i + 1 < text.size() && absl::StrContains("{%#", text.substr(i + 1, 1))) return i;
  }
  return kNotFound;
}

bool IsDigit(char c, int base) {
  if (base == 16) return absl::ascii_isxdigit(static_cast<unsigned char>(c));
  return c >= '0' && c < '0' + base;
}

// The length of the digits at `start`, single underscores between them included.
size_t DigitRun(absl::string_view text, size_t start, int base) {
  size_t end = start;
  while (end < text.size()) {
    const size_t digit = end + (end > start && text[end] == '_' ? 1 : 0);
    if (digit >= text.size() || !IsDigit(text[digit], base)) break;
    end = digit + 1;
  }
  return end - start;
}

// The length of the number with a fraction or an exponent that `text` begins with, otherwise 0.
size_t FloatLength(absl::string_view text) {
  size_t end = DigitRun(text, 0, 10);
  if (end == 0) return 0;
  bool is_float = false;
  if (end < text.size() && text[end] == '.') {
    if (const size_t fraction = DigitRun(text, end + 1, 10); fraction > 0) {
      end += 1 + fraction;
      is_float = true;
    }
  }
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    size_t digits = end + 1;
    if (digits < text.size() && (text[digits] == '+' || text[digits] == '-')) ++digits;
    if (const size_t exponent = DigitRun(text, digits, 10); exponent > 0) {
      end = digits + exponent;
      is_float = true;
    }
  }
  return is_float ? end : 0;
}

struct IntegerForm {
  int base = 10;
  size_t prefix_bytes = 0;
  size_t num_bytes = 0;
};

// REQUIRES: `text` begins with a digit.
IntegerForm FindInteger(absl::string_view text) {
  constexpr std::array<std::pair<char, int>, 3> kBases = {{{'b', 2}, {'o', 8}, {'x', 16}}};
  if (text[0] == '0' && text.size() > 1) {
    for (const auto& [letter, base] : kBases) {
      if (absl::ascii_tolower(static_cast<unsigned char>(text[1])) != letter) continue;
      const size_t start = kMarkBytes + (text.size() > 2 && text[2] == '_' ? 1 : 0);
      const size_t digits = DigitRun(text, start, base);
      if (digits > 0) return {base, start, start + digits};
    }
  }
  if (text[0] != '0') return {10, 0, DigitRun(text, 0, 10)};
  size_t zeros = 1;
  while (true) {
    const size_t next = zeros + (zeros < text.size() && text[zeros] == '_' ? 1 : 0);
    if (next >= text.size() || text[next] != '0') break;
    zeros = next + 1;
  }
  return {10, 0, zeros};
}

// The length of the operator that `text` begins with, 0 if there is none.
size_t OperatorLength(absl::string_view text) {
  for (const absl::string_view two : {"//", "**", "==", "!=", ">=", "<="}) {
    if (absl::StartsWith(text, two)) return two.size();
  }
  return absl::StrContains("+-*/%~[](){}<>=.:|,;", text.substr(0, 1)) ? 1 : 0;
}

}  // namespace

std::string Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText:
      return "text";
    case TokenKind::kString:
      return "a string";
    case TokenKind::kEnd:
      return "the end of the template";
    default:
      return absl::StrCat("'", absl::StripAsciiWhitespace(token.text), "'");
  }
}

absl::StatusOr<Lexer> Lexer::Create(absl::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the template has ", source.size(), " bytes, more than the limit of ", kMaxSourceBytes));
  }
  if (!IsValidUtf8(source)) return absl::InvalidArgumentError("the template is not UTF-8");
  std::string normalized = absl::StrReplaceAll(source, {{"\r\n", "\n"}, {"\r", "\n"}});
  if (absl::EndsWith(normalized, "\n")) normalized.pop_back();
  return Lexer(std::move(normalized));
}

void Lexer::Skip(size_t num_bytes) {
  const absl::string_view skipped = Rest().substr(0, num_bytes);
  for (const char c : skipped) {
    if (c == '\n') {
      ++position_.line;
      position_.column = 1;
    } else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) {  // not inside of a character
      ++position_.column;
    }
  }
  offset_ += skipped.size();
  at_line_start_ = absl::EndsWith(skipped, "\n");
}

Token Lexer::TakeToken(TokenKind kind, size_t num_bytes) {
  Token token{kind, position_, std::string(Rest().substr(0, num_bytes))};
  Skip(num_bytes);
  return token;
}

absl::StatusOr<Token> Lexer::Next() { return state_ == State::kText ? NextOfText() : NextInTag(); }

absl::StatusOr<Token> Lexer::NextOfText() {
  while (offset_ < source_.size()) {
    const size_t text_bytes = FindMark(Rest());
    if (text_bytes == kNotFound) return TakeToken(TokenKind::kText, Rest().size());
    const char mark = Rest()[text_bytes + 1];
    const absl::string_view after = Rest().substr(text_bytes + kMarkBytes);
    const char sign = !after.empty() && (after[0] == '-' || after[0] == '+') ? after[0] : '\0';
    std::string text(TextBeforeTag(Rest().substr(0, text_bytes), mark, sign));
    if (!text.empty()) {
      // The mark stays for the next call, with nothing in front of it.
      Token token{TokenKind::kText, position_, std::move(text)};
      Skip(text_bytes);
      return token;
    }
    Skip(text_bytes);
    const size_t mark_bytes = kMarkBytes + (sign != '\0' ? 1 : 0);
    if (mark != '#') {
      state_ = mark == '{' ? State::kOutput : State::kTag;
      return TakeToken(mark == '{' ? TokenKind::kOutputBegin : TokenKind::kTagBegin, mark_bytes);
    }
    RETURN_IF_ERROR(SkipComment());
  }
  return Token{TokenKind::kEnd, position_};
}

absl::string_view Lexer::TextBeforeTag(absl::string_view text, char mark, char sign) const {
  if (sign == '-') return StripTrailingSpace(text);
  if (sign == '+' || mark == '{') return text;
  const size_t line_break = text.rfind('\n');
  if (line_break == kNotFound && !at_line_start_) return text;
  const size_t line = line_break == kNotFound ? 0 : line_break + 1;
  return LeadingSpace(text.substr(line)) == text.size() - line ? text.substr(0, line) : text;
}

absl::Status Lexer::SkipComment() {
  const Position begin = position_;
  Skip(kMarkBytes);
  if (absl::StartsWith(Rest(), "-") || absl::StartsWith(Rest(), "+")) Skip(1);
  const size_t end = Rest().find("#}");
  if (end == kNotFound) return InvalidAt(begin, "the comment has no end");
  const char sign = end > 0 ? Rest()[end - 1] : '\0';
  size_t num_bytes = end + kMarkBytes;
  if (sign == '-') {
    num_bytes += LeadingSpace(Rest().substr(num_bytes));
  } else if (sign != '+' && absl::StartsWith(Rest().substr(num_bytes), "\n")) {
    ++num_bytes;
  }
  Skip(num_bytes);
  return absl::OkStatus();
}

size_t Lexer::EndOfTag() const {
  const absl::string_view end = state_ == State::kOutput ? "}}" : "%}";
  const absl::string_view rest = Rest();
  if (absl::StartsWith(rest, "-") && absl::StartsWith(rest.substr(1), end)) {
    const size_t num_bytes = kMarkBytes + 1;
    return num_bytes + LeadingSpace(rest.substr(num_bytes));
  }
  if (state_ == State::kTag && absl::StartsWith(rest, "+%}")) return kMarkBytes + 1;
  if (!absl::StartsWith(rest, end)) return 0;
  const bool trims = state_ == State::kTag && absl::StartsWith(rest.substr(kMarkBytes), "\n");
  return kMarkBytes + (trims ? 1 : 0);
}

absl::StatusOr<Token> Lexer::NextInTag() {
  Skip(LeadingSpace(Rest()));
  if (Rest().empty()) return Token{TokenKind::kEnd, position_};
  if (open_brackets_.empty()) {
    if (const size_t num_bytes = EndOfTag(); num_bytes > 0) {
      const TokenKind kind = state_ == State::kOutput ? TokenKind::kOutputEnd : TokenKind::kTagEnd;
      state_ = State::kText;
      return TakeToken(kind, num_bytes);
    }
  }
  const char c = Rest()[0];
  if (absl::ascii_isdigit(static_cast<unsigned char>(c))) return TakeNumber();
  if (c == '\'' || c == '"') return TakeString();
  if (IsNameStart(FirstCharacter(Rest()).code_point)) return TakeName();
  return TakeOperator();
}

Token Lexer::TakeName() {
  size_t num_bytes = 0;
  while (num_bytes < Rest().size()) {
    const Character character = FirstCharacter(Rest().substr(num_bytes));
    if (!IsNameCharacter(character.code_point)) break;
    num_bytes += character.num_bytes;
  }
  return TakeToken(TokenKind::kName, num_bytes);
}

absl::StatusOr<Token> Lexer::TakeNumber() {
  // After a dot, a number is an index (x.0.1), never the whole part of a fraction.
  if (source_[offset_ - 1] != '.') {
    if (const size_t num_bytes = FloatLength(Rest()); num_bytes > 0) {
      return TakeToken(TokenKind::kFloat, num_bytes);
    }
  }
  const IntegerForm form = FindInteger(Rest());
  Token token = TakeToken(TokenKind::kInteger, form.num_bytes);
  const std::string digits =
      absl::StrReplaceAll(absl::string_view(token.text).substr(form.prefix_bytes), {{"_", ""}});
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), token.integer, form.base);
  if (error != std::errc()) {
    return UnsupportedAt(token.position, absl::StrCat("an integer of more than 64 bits"));
  }
  return token;
}

absl::StatusOr<Token> Lexer::TakeString() {
  const absl::string_view rest = Rest();
  size_t end = 1;
  while (end < rest.size() && rest[end] != rest[0]) end += rest[end] == '\\' ? 2 : 1;
  if (end >= rest.size()) return InvalidAt(position_, "the string has no end");
  auto text = Unescape(rest.substr(1, end - 1));
  if (!text.ok()) return At(position_, text.status());
  Token token{TokenKind::kString, position_, *std::move(text)};
  Skip(end + 1);
  return token;
}

absl::StatusOr<Token> Lexer::TakeOperator() {
  const size_t num_bytes = OperatorLength(Rest());
  if (num_bytes == 0) {
    const absl::string_view character = Rest().substr(0, FirstCharacter(Rest()).num_bytes);
    return InvalidAt(position_, absl::StrCat("unexpected character '", character, "'"));
  }
  switch (const char c = Rest()[0]) {
    case '(':
      open_brackets_.push_back(')');
      break;
    case '[':
      open_brackets_.push_back(']');
      break;
    case '{':
      open_brackets_.push_back('}');
      break;
    case ')':
    case ']':
    case '}':
      if (open_brackets_.empty()) {
        return InvalidAt(position_, absl::StrCat("unexpected '", std::string(1, c), "'"));
      }
      if (open_brackets_.back() != c) {
        return InvalidAt(position_, absl::StrCat("unexpected '", std::string(1, c), "', expected '",
                                                 std::string(1, open_brackets_.back()), "'"));
      }
      open_brackets_.pop_back();
      break;
    default:
      break;
  }
  return TakeToken(TokenKind::kOperator, num_bytes);
}

}  // namespace sluice::tokenizer::jinja
