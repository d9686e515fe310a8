// The parts of Jinja that are recognised in order to be refused by name.
#pragma once

#include "absl/strings/string_view.h"

namespace sluice::tokenizer::jinja {

// Whether {% name ... %} begins a statement of Jinja, of one of the extensions that chat templates
// are rendered with, or of their own.
bool IsUnsupportedStatement(absl::string_view name);

// Whether an operator of Jinja is written like this and not supported.
bool IsUnsupportedOperator(absl::string_view text);

// Whether every template knows `name` without being given it: Jinja's own functions and those that
// chat templates are rendered with.
bool IsGlobalFunction(absl::string_view name);

}  // namespace sluice::tokenizer::jinja
