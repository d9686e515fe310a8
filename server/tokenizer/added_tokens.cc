#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

absl::StatusOr<AddedToken> ReadToken(const JsonField& field) {
  AddedToken token;
  ASSIGN_OR_RETURN(const JsonField content, field.At("content"));
  ASSIGN_OR_RETURN(token.content, content.String());
  if (token.content.empty()) return content.Invalid("must not be empty");
  ASSIGN_OR_RETURN(token.special, field.BoolOr("special", false));
  ASSIGN_OR_RETURN(token.single_word, field.BoolOr("single_word", false));
  ASSIGN_OR_RETURN(token.lstrip, field.BoolOr("lstrip", false));
  ASSIGN_OR_RETURN(token.rstrip, field.BoolOr("rstrip", false));
  ASSIGN_OR_RETURN(token.normalized, field.BoolOr("normalized", !token.special));
  return token;
}

bool IsWholeWord(absl::string_view text, size_t begin, size_t end) {
  return (begin == 0 || !IsWordCharacter(CodePointBefore(text, begin))) &&
         (end == text.size() || !IsWordCharacter(CodePointAt(text, end)));
}

// Where the blanks before text[end] begin, but not before `begin`.
size_t SkipBlanksBackwards(absl::string_view text, size_t begin, size_t end) {
  while (end > begin) {
    size_t start = end - 1;
    while ((static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    if (!IsWhitespace(CodePointAt(text, start))) break;
    end = start;
  }
  return end;
}

size_t SkipBlanks(absl::string_view text, size_t begin) {
  while (begin < text.size() && IsWhitespace(CodePointAt(text, begin))) {
    begin += Utf8Length(text[begin]);
  }
  return begin;
}

}  // namespace

void StringMatcher::Add(absl::string_view text, int index) {
  uint32_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (node == 0) starts_[byte] = true;
    const auto [child, is_new] = children_.try_emplace(uint64_t{node} << 8 | byte, num_nodes_);
    if (is_new) ++num_nodes_;
    node = child->second;
  }
  indices_.try_emplace(node, index);
}

std::optional<StringMatcher::Match> StringMatcher::MatchAt(absl::string_view text,
                                                           size_t begin) const {
  if (!starts_[static_cast<unsigned char>(text[begin])]) return std::nullopt;
  std::optional<Match> longest;
  uint32_t node = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    const auto child = children_.find(uint64_t{node} << 8 | static_cast<unsigned char>(text[i]));
    if (child == children_.end()) break;
    node = child->second;
    if (const auto index = indices_.find(node); index != indices_.end()) {
      longest = Match{i + 1, index->second};
    }
  }
  return longest;
}

absl::StatusOr<AddedTokens> AddedTokens::FromJson(const JsonField& field,
                                                  const Vocabulary& vocabulary,
                                                  const Normalizer& normalizer) {
  ASSIGN_OR_RETURN(const std::vector<JsonField> elements, field.Elements());
  AddedTokens added;
  absl::flat_hash_map<std::string, size_t> seen;
  const int64_t highest_id =
      HighestTokenId(vocabulary.num_tokens() + static_cast<int64_t>(elements.size()));
  TokenId next_id = vocabulary.num_tokens();
  for (const JsonField& element : elements) {
    ASSIGN_OR_RETURN(AddedToken token, ReadToken(element));
    if (!seen.try_emplace(token.content, added.tokens_.size()).second) {
      return element.Invalid(absl::StrCat("'", token.content, "' is given twice"));
    }
    ASSIGN_OR_RETURN(const JsonField id_field, element.At("id"));
    ASSIGN_OR_RETURN(const int64_t id, id_field.Index(highest_id));
    token.id = static_cast<TokenId>(id);
    const TokenId expected = vocabulary.Find(token.content).value_or(next_id);
    if (token.id != expected) {
      return id_field.Invalid(absl::StrCat("is ", id, ", but '", token.content,
                                           "' must have the id ", expected,
                                           ": its own in model.vocab or the next free one"));
    }
    if (expected == next_id && vocabulary.Text(expected) != nullptr &&
        *vocabulary.Text(expected) != token.content) {
      return id_field.Invalid(absl::StrCat("is ", id, ", which model.vocab gives to '",
                                           *vocabulary.Text(expected), "'"));
    }
    next_id = std::max(next_id, token.id + 1);
    added.tokens_.push_back(std::move(token));
  }
  // Special tokens go first: they win over others whose normalized text is the same.
  for (const bool special : {true, false}) {
    for (size_t i = 0; i < added.tokens_.size(); ++i) {
      const AddedToken& token = added.tokens_[i];
      if (token.special != special) continue;
      if (!token.normalized) {
        added.raw_.Add(token.content, static_cast<int>(i));
        continue;
      }
      MatchBudget budget(token.content.size());
      absl::StatusOr<NormalizedText> normalized =
          normalizer.Apply({.text = token.content, .at_start = true}, budget);
      if (!normalized.ok()) return elements[i].Invalid(normalized.status().message());
      if (normalized->text.empty()) {
        return elements[i].Unimplemented(
            absl::StrCat("nothing is left of '", token.content, "' after the normalizer"));
      }
      added.normalized_.Add(normalized->text, static_cast<int>(i));
    }
  }
  return added;
}

std::vector<AddedTokens::Segment> AddedTokens::Split(absl::string_view text,
                                                     bool is_normalized) const {
  const StringMatcher& matcher = is_normalized ? normalized_ : raw_;
  std::vector<Segment> segments;
  size_t covered = 0;
  for (size_t i = 0; i < text.size();) {
    const std::optional<StringMatcher::Match> match = matcher.MatchAt(text, i);
    if (!match.has_value()) {
      ++i;
      continue;
    }
    const AddedToken& token = tokens_[match->index];
    size_t begin = i;
    size_t end = match->end;
    i = end;
    if (token.single_word && !IsWholeWord(text, begin, end)) continue;
    // Blanks that an earlier token swallowed can still be a token of their own.
    if (token.lstrip) {
      begin = std::max(SkipBlanksBackwards(text, std::min(covered, begin), begin), covered);
    }
    if (token.rstrip) end = SkipBlanks(text, end);
    if (covered < begin) segments.push_back({covered, begin, std::nullopt});
    segments.push_back({begin, end, token.id});
    covered = end;
  }
  if (covered < text.size()) segments.push_back({covered, text.size(), std::nullopt});
  return segments;
}

}  // namespace sluice::tokenizer
