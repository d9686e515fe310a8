// The texts of a model's tokens and their ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/token.h"
#include "tokenizer/json_field.h"

namespace sluice::tokenizer {

// The highest id that a file with `num_tokens` tokens may use: tables are indexed by ids, and a
// single high id must not make them huge.
inline int64_t HighestTokenId(int64_t num_tokens) {
  constexpr int64_t kAny = 65'535;
  constexpr int64_t kGapsPerToken = 16;
  constexpr int64_t kMost = (1 << 22) - 1;
  const int64_t highest = kAny + kGapsPerToken * num_tokens;
  return highest < kMost ? highest : kMost;
}

// Immutable; usable from any thread.
class Vocabulary {
 public:
  // From an object of texts and ids. INVALID_ARGUMENT if an id is no integer from 0 to
  // HighestTokenId() or is given twice.
  static absl::StatusOr<Vocabulary> FromJson(const JsonField& field);

  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  std::optional<TokenId> Find(absl::string_view text) const;
  // nullptr if no token has this id, which may be any.
  const std::string* Text(TokenId id) const;

  int num_tokens() const { return static_cast<int>(ids_.size()); }
  // One more than the highest id.
  int end_id() const { return static_cast<int>(texts_.size()); }

 private:
  Vocabulary() = default;

  std::vector<std::optional<std::string>> texts_;        // by id
  absl::flat_hash_map<absl::string_view, TokenId> ids_;  // views of texts_
};

}  // namespace sluice::tokenizer
