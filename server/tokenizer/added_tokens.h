// The "added_tokens" of a tokenizer.json: tokens that are cut out of text before the model sees it,
// such as <|im_end|>.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/token.h"
#include "tokenizer/json_field.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/vocabulary.h"

namespace sluice::tokenizer {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;  // only where no word character is beside it
  bool lstrip = false;       // swallows the blanks before it
  bool rstrip = false;       // swallows the blanks behind it
  bool normalized = true;    // is searched in normalized text, itself normalized
  bool special = false;      // can be left out when decoding
};

// A set of strings, to be found in text leftmost first and the longest of those that begin at the
// same place.
class StringMatcher {
 public:
  struct Match {
    size_t end;
    int index;
  };

  // Of equal strings the first counts. REQUIRES: `text` is not empty.
  void Add(absl::string_view text, int index);
  // The longest string that begins at text[begin].
  std::optional<Match> MatchAt(absl::string_view text, size_t begin) const;

 private:
  absl::flat_hash_map<uint64_t, uint32_t> children_;  // by node << 8 | byte; node 0 is the root
  absl::flat_hash_map<uint32_t, int> indices_;        // by node
  uint32_t num_nodes_ = 1;
  bool starts_[256] = {};
};

// Immutable; usable from any thread.
class AddedTokens {
 public:
  struct Segment {
    size_t begin;
    size_t end;
    // The added token that stands here; nullopt for text.
    std::optional<TokenId> id;
  };

  AddedTokens() = default;
  // Ids continue those of `vocabulary`, except for tokens that it has. INVALID_ARGUMENT, naming the
  // field, if they do not, or if a token is given twice; UNIMPLEMENTED if nothing is left of one
  // after `normalizer`.
  static absl::StatusOr<AddedTokens> FromJson(const JsonField& field, const Vocabulary& vocabulary,
                                              const Normalizer& normalizer);

  // Cuts the added tokens out of text that has been normalized or is as the caller wrote it. Each
  // kind of text has its own tokens. REQUIRES: valid UTF-8.
  std::vector<Segment> Split(absl::string_view text, bool is_normalized) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  std::vector<AddedToken> tokens_;
  StringMatcher raw_;  // of indices of tokens_
  StringMatcher normalized_;
};

}  // namespace sluice::tokenizer
