// Token ids to text for ids that the model knows but the tokenizer may not: checkpoints round their
// vocabulary up, and the ids in between mean nothing. They make no text.
#pragma once

#include <string>

#include "absl/types/span.h"
#include "base/token.h"
#include "tokenizer/tokenizer.h"

namespace sluice::api {

// Thread-safe.
std::string DecodeKnown(const tokenizer::Tokenizer& tokenizer, absl::Span<const TokenId> ids,
                        tokenizer::Tokenizer::DecodeOptions options);

// The text of one token alone, special or not.
std::string TokenText(const tokenizer::Tokenizer& tokenizer, TokenId id);

}  // namespace sluice::api
