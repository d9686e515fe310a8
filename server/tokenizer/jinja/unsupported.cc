#include "tokenizer/jinja/unsupported.h"

#include <algorithm>
#include <initializer_list>

namespace sluice::tokenizer::jinja {
namespace {

bool Contains(std::initializer_list<absl::string_view> names, absl::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

bool IsUnsupportedStatement(absl::string_view name) {
  return Contains(
      {"set", "macro", "call", "filter", "raw", "with", "autoescape", "block", "extends", "include",
       "import", "from", "print", "break", "continue", "do", "generation"},
      name);
}

bool IsUnsupportedOperator(absl::string_view text) {
  return Contains(
      {"-", "*", "/", "//", "%", "**", "~", "!=", "<", "<=", ">", ">=", "and", "or", "in", "not"},
      text);
}

bool IsGlobalFunction(absl::string_view name) {
  return Contains({"range", "dict", "lipsum", "cycler", "joiner", "namespace", "self",
                   "raise_exception", "strftime_now"},
                  name);
}

}  // namespace sluice::tokenizer::jinja
