// The "post_processor" of a tokenizer.json: puts special tokens around the tokens of a text.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/token.h"
#include "tokenizer/json_field.h"

namespace sluice::tokenizer {

// Immutable; usable from any thread. Knows TemplateProcessing (its template for a single text),
// ByteLevel (which only concerns offsets) and Sequence with at most one template.
class PostProcessor {
 public:
  // Adds nothing.
  PostProcessor() = default;
  // Its special tokens must be below `end_id`. INVALID_ARGUMENT or UNIMPLEMENTED, naming the field,
  // for what is malformed or not supported.
  static absl::StatusOr<PostProcessor> FromJson(const JsonField& field, TokenId end_id);

  // Whether the tokens of a text are part of the result.
  bool keeps_text() const;

  std::vector<TokenId> Apply(std::vector<TokenId> ids, bool add_special_tokens) const;

 private:
  struct Part {
    bool is_text = false;              // the tokens of the text stand here
    std::vector<TokenId> special_ids;  // otherwise
  };

  static absl::StatusOr<std::vector<Part>> ReadTemplate(const JsonField& field, TokenId end_id);

  bool has_template_ = false;
  std::vector<Part> template_;
};

}  // namespace sluice::tokenizer
