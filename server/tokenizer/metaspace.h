// How a tokenizer.json describes Metaspace, the form of SentencePiece that writes blanks as a
// visible character; both a pre-tokenizer and a decoder.
#pragma once

#include "absl/status/statusor.h"
#include "tokenizer/json_field.h"

namespace sluice::tokenizer {

struct Metaspace {
  enum class Prepend { kAlways, kFirst, kNever };

  char32_t replacement = 0x2581;
  // Where a blank is put in front: to every piece, to the start of the text alone, nowhere.
  Prepend prepend = Prepend::kAlways;
  // Whether text is cut before each blank.
  bool split = true;

  // Reads both the present form (prepend_scheme, split) and the older one (add_prefix_space).
  static absl::StatusOr<Metaspace> FromJson(const JsonField& field);
};

}  // namespace sluice::tokenizer
