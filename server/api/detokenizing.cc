#include "api/detokenizing.h"

#include <vector>

namespace sluice::api {

std::string DecodeKnown(const tokenizer::Tokenizer& tokenizer, absl::Span<const TokenId> ids,
                        tokenizer::Tokenizer::DecodeOptions options) {
  std::vector<TokenId> known;
  known.reserve(ids.size());
  for (const TokenId id : ids) {
    if (id < tokenizer.vocab_size()) known.push_back(id);
  }
  return tokenizer.Decode(known, options);
}

std::string TokenText(const tokenizer::Tokenizer& tokenizer, TokenId id) {
  return DecodeKnown(tokenizer, {&id, 1}, {.skip_special_tokens = false});
}

}  // namespace sluice::api
