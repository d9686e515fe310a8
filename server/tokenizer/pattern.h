// What a tokenizer searches text for: a literal string, or a regular expression (Oniguruma, the
// engine that the files are written for) with a limit on its work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tokenizer/json_field.h"

struct re_pattern_buffer;  // what Oniguruma's OnigRegex points to

namespace sluice::tokenizer {

// How much all regular expressions together may backtrack while one text is encoded: a multiple of
// its length, so that no text, however it is made, holds a thread for long. Also holds the scratch
// space of the matcher. Not thread-safe: one for each call.
class MatchBudget {
 public:
  explicit MatchBudget(size_t text_bytes);
  ~MatchBudget();
  MatchBudget(const MatchBudget&) = delete;
  MatchBudget& operator=(const MatchBudget&) = delete;

 private:
  friend class Pattern;
  struct Scratch;
  int64_t retries_left_;
  std::unique_ptr<Scratch> scratch_;
};

// Immutable; usable from any thread.
class Pattern {
 public:
  struct Span {
    size_t begin;
    size_t end;
    bool is_match;
  };

  // INVALID_ARGUMENT if `regex` is not a regular expression. An empty literal matches between all
  // characters.
  static absl::StatusOr<Pattern> Regex(const std::string& regex);
  static absl::StatusOr<Pattern> Literal(const std::string& literal);
  // {"String": literal} or {"Regex": regex}.
  static absl::StatusOr<Pattern> FromJson(const JsonField& field);

  // The whole of `text`, cut into matches (which may be empty) and what lies between them.
  // INVALID_ARGUMENT if that takes more work than `budget` has left. REQUIRES: valid UTF-8.
  absl::StatusOr<std::vector<Span>> FindAll(absl::string_view text, MatchBudget& budget) const;

  bool is_regex() const { return regex_ != nullptr; }
  // REQUIRES: !is_regex().
  const std::string& literal() const { return literal_; }

 private:
  struct FreeRegex {
    void operator()(re_pattern_buffer* regex) const;
  };

  Pattern() = default;
  // The first match at or after `from`; nullopt if there is none.
  absl::StatusOr<std::optional<Span>> FindNext(absl::string_view text, size_t from,
                                               MatchBudget& budget) const;

  std::unique_ptr<re_pattern_buffer, FreeRegex> regex_;
  std::string literal_;
};

}  // namespace sluice::tokenizer
