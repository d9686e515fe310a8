// What becomes of the delimiters when text is split: the behaviours that pre-tokenizers share.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tokenizer/json_field.h"
#include "tokenizer/pattern.h"

namespace sluice::tokenizer {

enum class SplitBehavior {
  kRemoved,             // the-final--countdown -> the final countdown
  kIsolated,            // the - final - - countdown
  kMergedWithPrevious,  // the- final- - countdown
  kMergedWithNext,      // the -final - -countdown
  kContiguous,          // the - final -- countdown
};

// INVALID_ARGUMENT if `field` is no name of a behaviour.
absl::StatusOr<SplitBehavior> SplitBehaviorFromJson(const JsonField& field);

// The parts to keep, in order, of a text that `spans` covers, its matches being the delimiters.
std::vector<Pattern::Span> ApplyBehavior(std::vector<Pattern::Span> spans, SplitBehavior behavior);

// `text` cut so that every character for which `is_match` holds is a match of its own.
std::vector<Pattern::Span> FindCharacters(absl::string_view text,
                                          const std::function<bool(char32_t)>& is_match);

}  // namespace sluice::tokenizer
