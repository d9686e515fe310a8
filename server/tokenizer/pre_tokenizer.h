// The "pre_tokenizer" of a tokenizer.json: cuts text into the pieces that the model turns into
// tokens one by one.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tokenizer/json_field.h"
#include "tokenizer/pattern.h"

namespace sluice::tokenizer {

// Text and the pieces of it that count, in order; what lies between them is dropped.
struct Pieces {
  struct Piece {
    size_t begin;
    size_t end;
    // As NormalizedText::at_start.
    bool at_start;
  };

  std::string text;
  std::vector<Piece> pieces;  // none is empty
};

// Immutable; usable from any thread. Knows ByteLevel, Split, Metaspace, Digits, Punctuation,
// Whitespace, WhitespaceSplit and Sequence.
class PreTokenizer {
 public:
  // Leaves everything in one piece.
  PreTokenizer();
  // INVALID_ARGUMENT or UNIMPLEMENTED, naming the field, for what is malformed or not supported.
  static absl::StatusOr<PreTokenizer> FromJson(const JsonField& field);

  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;

  // Cuts each piece further. REQUIRES: valid UTF-8. INVALID_ARGUMENT if a pattern takes more work
  // than `budget` has left.
  absl::StatusOr<Pieces> Apply(Pieces input, MatchBudget& budget) const;

  // Whether every part of a text becomes part of a piece.
  bool keeps_text() const;
  // Whether pieces consist of the byte alphabet alone; false if that is not certain.
  bool makes_bytes() const { return !steps_.empty() && steps_.back()->makes_bytes(); }

  // One component; Sequences are taken apart.
  class Step {
   public:
    virtual ~Step() = default;
    // As the pre-tokenizer's.
    virtual bool keeps_text() const { return true; }
    virtual bool makes_bytes() const { return false; }
    virtual absl::StatusOr<Pieces> Apply(Pieces input, MatchBudget& budget) const = 0;
  };

 private:
  std::vector<std::unique_ptr<const Step>> steps_;
};

}  // namespace sluice::tokenizer
