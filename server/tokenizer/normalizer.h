// The "normalizer" of a tokenizer.json: rewrites text before it is cut up.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tokenizer/json_field.h"
#include "tokenizer/pattern.h"

namespace sluice::tokenizer {

// Text on its way through the normalizer.
struct NormalizedText {
  std::string text;
  // Whether the first character stems from the first one of the caller's text; pre-tokenizers that
  // treat the start of the text differently ask for this.
  bool at_start = false;
};

// Immutable; usable from any thread. Knows NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend,
// Replace, ByteLevel and Sequence.
class Normalizer {
 public:
  // Leaves text as it is.
  Normalizer();
  // INVALID_ARGUMENT or UNIMPLEMENTED, naming the field, for what is malformed or not supported.
  static absl::StatusOr<Normalizer> FromJson(const JsonField& field);

  ~Normalizer();
  Normalizer(Normalizer&&) noexcept;
  Normalizer& operator=(Normalizer&&) noexcept;

  // REQUIRES: valid UTF-8. The result is, too. INVALID_ARGUMENT if a pattern takes more work than
  // `budget` has left.
  absl::StatusOr<NormalizedText> Apply(NormalizedText input, MatchBudget& budget) const;

  // A byte of normalized text stems from at most so many bytes of the text before; nullopt if there
  // is no such number.
  std::optional<size_t> max_shrink() const;

  // One component; Sequences are taken apart.
  class Step {
   public:
    virtual ~Step() = default;
    // As the normalizer's.
    virtual std::optional<size_t> max_shrink() const = 0;
    virtual absl::StatusOr<NormalizedText> Apply(NormalizedText input,
                                                 MatchBudget& budget) const = 0;
  };

 private:
  std::vector<std::unique_ptr<const Step>> steps_;
};

}  // namespace sluice::tokenizer
