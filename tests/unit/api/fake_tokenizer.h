// FakeTokenizer: one token per byte, so that tests can work out ids by hand, and a few that are not
// bytes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace sluice::testing {

class FakeTokenizer final : public tokenizer::Tokenizer {
 public:
  // Special tokens.
  static constexpr TokenId kBos = 256;
  static constexpr TokenId kEos = 257;
  // Has no text and is beyond what the fake model facts allow in prompts.
  static constexpr TokenId kBeyondModel = 1500;
  static constexpr int kVocabSize = 258;

  // The bytes of `text`, after kBos if special tokens are wanted. A "\x01" makes kBeyondModel, a
  // "\x02" an error.
  absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text,
                                              EncodeOptions options) const override;
  // Bytes that are not UTF-8 become U+FFFD, one for each.
  std::string Decode(absl::Span<const TokenId> ids, DecodeOptions options) const override;
  std::unique_ptr<tokenizer::DecodeStream> StartDecoding(DecodeOptions options) const override;
  // Those that a character may have begun with.
  size_t ContextLength(absl::Span<const TokenId> prompt, DecodeOptions) const override {
    return prompt.size() < 3 ? prompt.size() : 3;
  }
  int vocab_size() const override { return kVocabSize; }
};

// The ids of the bytes of `text`.
std::vector<TokenId> Bytes(absl::string_view text);

}  // namespace sluice::testing
