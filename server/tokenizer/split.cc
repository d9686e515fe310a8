#include "tokenizer/split.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

using Span = Pattern::Span;

// Joins each match that does not follow another match to the span before it.
std::vector<Span> MergeWithPrevious(const std::vector<Span>& spans) {
  std::vector<Span> merged;
  bool previous_match = false;
  for (const Span& span : spans) {
    if (span.is_match && !previous_match && !merged.empty()) {
      merged.back().end = span.end;
    } else {
      merged.push_back(span);
    }
    previous_match = span.is_match;
  }
  return merged;
}

// The same with the span after it.
std::vector<Span> MergeWithNext(const std::vector<Span>& spans) {
  std::vector<Span> merged;
  bool next_match = false;
  for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
    if (span->is_match && !next_match && !merged.empty()) {
      merged.back().begin = span->begin;
    } else {
      merged.push_back(*span);
    }
    next_match = span->is_match;
  }
  std::reverse(merged.begin(), merged.end());
  return merged;
}

std::vector<Span> JoinNeighbours(const std::vector<Span>& spans) {
  std::vector<Span> joined;
  for (const Span& span : spans) {
    if (!joined.empty() && joined.back().is_match == span.is_match) {
      joined.back().end = span.end;
    } else {
      joined.push_back(span);
    }
  }
  return joined;
}

}  // namespace

absl::StatusOr<SplitBehavior> SplitBehaviorFromJson(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::string name, field.String());
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return field.Invalid(absl::StrCat("'", name, "' is no behavior"));
}

std::vector<Span> ApplyBehavior(std::vector<Span> spans, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kRemoved:
      spans.erase(std::remove_if(spans.begin(), spans.end(),
                                 [](const Span& span) { return span.is_match; }),
                  spans.end());
      return spans;
    case SplitBehavior::kIsolated:
      return spans;
    case SplitBehavior::kMergedWithPrevious:
      return MergeWithPrevious(spans);
    case SplitBehavior::kMergedWithNext:
      return MergeWithNext(spans);
    case SplitBehavior::kContiguous:
      return JoinNeighbours(spans);
  }
  return spans;
}

std::vector<Span> FindCharacters(absl::string_view text,
                                 const std::function<bool(char32_t)>& is_match) {
  std::vector<Span> spans;
  for (size_t i = 0; i < text.size();) {
    const size_t end = i + Utf8Length(text[i]);
    if (is_match(CodePointAt(text, i))) {
      spans.push_back({i, end, true});
    } else if (!spans.empty() && !spans.back().is_match) {
      spans.back().end = end;
    } else {
      spans.push_back({i, end, false});
    }
    i = end;
  }
  return spans;
}

}  // namespace sluice::tokenizer
