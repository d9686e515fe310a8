#include "tokenizer/jinja/token_stream.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace sluice::tokenizer::jinja {

absl::Status TokenStream::Advance() {
  ASSIGN_OR_RETURN(current_, lexer_.Next());
  return absl::OkStatus();
}

bool TokenStream::AtOperator(absl::string_view text) const {
  return AtKind(TokenKind::kOperator) && current_.text == text;
}

bool TokenStream::AtAnyName(Names names) const {
  return AtKind(TokenKind::kName) &&
         std::find(names.begin(), names.end(), current_.text) != names.end();
}

absl::Status TokenStream::Unexpected(absl::string_view expected) const {
  return InvalidAt(current_.position,
                   absl::StrCat("expected ", expected, ", but there is ", Describe(current_)));
}

absl::Status TokenStream::Unsupported(absl::string_view construct) const {
  return UnsupportedAt(current_.position, construct);
}

absl::Status TokenStream::CheckNesting() const {
  if (nesting_ <= kMaxNesting) return absl::OkStatus();
  return InvalidAt(current_.position,
                   absl::StrCat("nested more than ", kMaxNesting, " levels deep"));
}

}  // namespace sluice::tokenizer::jinja
