#include "tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/component.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/split.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

using Step = PreTokenizer::Step;

// GPT-2's own pattern: contractions, then words, numbers and other characters, each with one blank
// before it, then blanks (Radford et al. 2019, the GPT-2 encoder).
constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

absl::string_view TextOf(const Pieces& pieces, const Pieces::Piece& piece) {
  return absl::string_view(pieces.text).substr(piece.begin, piece.end - piece.begin);
}

// Cuts pieces without changing the text.
class Cut : public Step {
 public:
  absl::StatusOr<Pieces> Apply(Pieces input, MatchBudget& budget) const final {
    std::vector<Pieces::Piece> pieces;
    pieces.reserve(input.pieces.size());
    for (const Pieces::Piece& piece : input.pieces) {
      ASSIGN_OR_RETURN(const std::vector<Pattern::Span> spans,
                       FindParts(TextOf(input, piece), budget));
      for (const Pattern::Span& span : spans) {
        if (span.begin == span.end) continue;
        pieces.push_back(
            {piece.begin + span.begin, piece.begin + span.end, piece.at_start && span.begin == 0});
      }
    }
    input.pieces = std::move(pieces);
    return input;
  }

 private:
  virtual absl::StatusOr<std::vector<Pattern::Span>> FindParts(absl::string_view text,
                                                               MatchBudget& budget) const = 0;
};

class Split final : public Cut {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  bool keeps_text() const override { return behavior_ != SplitBehavior::kRemoved; }

 private:
  absl::StatusOr<std::vector<Pattern::Span>> FindParts(absl::string_view text,
                                                       MatchBudget& budget) const override {
    ASSIGN_OR_RETURN(std::vector<Pattern::Span> spans, pattern_.FindAll(text, budget));
    if (invert_) {
      for (Pattern::Span& span : spans) span.is_match = !span.is_match;
    }
    return ApplyBehavior(std::move(spans), behavior_);
  }

  const Pattern pattern_;
  const SplitBehavior behavior_;
  const bool invert_;
};

// Splits where single characters have a property.
class CharacterSplit final : public Cut {
 public:
  CharacterSplit(std::function<bool(char32_t)> is_match, SplitBehavior behavior)
      : is_match_(std::move(is_match)), behavior_(behavior) {}
  bool keeps_text() const override { return behavior_ != SplitBehavior::kRemoved; }

 private:
  absl::StatusOr<std::vector<Pattern::Span>> FindParts(absl::string_view text,
                                                       MatchBudget&) const override {
    return ApplyBehavior(FindCharacters(text, is_match_), behavior_);
  }

  const std::function<bool(char32_t)> is_match_;
  const SplitBehavior behavior_;
};

// Keeps runs of word characters and runs of other characters that are not blank.
class WordsAndSymbols final : public Cut {
 public:
  bool keeps_text() const override { return false; }

 private:
  absl::StatusOr<std::vector<Pattern::Span>> FindParts(absl::string_view text,
                                                       MatchBudget&) const override {
    std::vector<Pattern::Span> parts;
    for (const Pattern::Span& words :
         ApplyBehavior(FindCharacters(text, IsWordCharacter), SplitBehavior::kContiguous)) {
      if (words.is_match) {
        parts.push_back(words);
        continue;
      }
      const absl::string_view between = text.substr(words.begin, words.end - words.begin);
      for (const Pattern::Span& symbols :
           ApplyBehavior(FindCharacters(between, IsWhitespace), SplitBehavior::kRemoved)) {
        parts.push_back({words.begin + symbols.begin, words.begin + symbols.end, false});
      }
    }
    return parts;
  }
};

class ByteLevel final : public Step {
 public:
  ByteLevel(bool add_prefix_space, std::optional<Pattern> pattern)
      : add_prefix_space_(add_prefix_space), pattern_(std::move(pattern)) {}
  bool makes_bytes() const override { return true; }

  absl::StatusOr<Pieces> Apply(Pieces input, MatchBudget& budget) const override {
    Pieces output;
    output.text.reserve(input.text.size() + input.text.size() / 2);
    output.pieces.reserve(input.pieces.size());
    std::string prefixed;
    for (const Pieces::Piece& piece : input.pieces) {
      absl::string_view text = TextOf(input, piece);
      if (add_prefix_space_ && text.front() != ' ') {
        prefixed = absl::StrCat(" ", text);
        text = prefixed;
      }
      std::vector<Pattern::Span> spans = {{0, text.size(), false}};
      if (pattern_.has_value()) {
        ASSIGN_OR_RETURN(spans, pattern_->FindAll(text, budget));
      }
      for (const Pattern::Span& span : spans) {
        const size_t begin = output.text.size();
        AppendByteAlphabet(text.substr(span.begin, span.end - span.begin), output.text);
        output.pieces.push_back({begin, output.text.size(), piece.at_start && span.begin == 0});
      }
    }
    return output;
  }

 private:
  const bool add_prefix_space_;
  const std::optional<Pattern> pattern_;
};

class MetaspaceStep final : public Step {
 public:
  explicit MetaspaceStep(Metaspace metaspace) : metaspace_(metaspace) {
    AppendUtf8(metaspace.replacement, replacement_);
  }

  absl::StatusOr<Pieces> Apply(Pieces input, MatchBudget&) const override {
    Pieces output;
    output.text.reserve(input.text.size());
    for (const Pieces::Piece& piece : input.pieces) {
      const absl::string_view text = TextOf(input, piece);
      const size_t begin = output.text.size();
      const bool starts_blank =
          text.front() == ' ' || CodePointAt(text, 0) == metaspace_.replacement;
      if (!starts_blank && (metaspace_.prepend == Metaspace::Prepend::kAlways ||
                            (metaspace_.prepend == Metaspace::Prepend::kFirst && piece.at_start))) {
        output.text += replacement_;
      }
      for (const char c : text) {
        if (c == ' ') {
          output.text += replacement_;
        } else {
          output.text += c;
        }
      }
      AddPieces(begin, piece.at_start, output);
    }
    return output;
  }

 private:
  // Makes pieces of what output.text has from `begin` on.
  void AddPieces(size_t begin, bool at_start, Pieces& output) const {
    if (!metaspace_.split) {
      output.pieces.push_back({begin, output.text.size(), at_start});
      return;
    }
    const auto is_replacement = [this](char32_t c) { return c == metaspace_.replacement; };
    for (const Pattern::Span& span :
         ApplyBehavior(FindCharacters(absl::string_view(output.text).substr(begin), is_replacement),
                       SplitBehavior::kMergedWithNext)) {
      output.pieces.push_back({begin + span.begin, begin + span.end, at_start && span.begin == 0});
    }
  }

  const Metaspace metaspace_;
  std::string replacement_;
};

absl::StatusOr<std::unique_ptr<const Step>> MakeSplit(const JsonField& field) {
  ASSIGN_OR_RETURN(const JsonField pattern_field, field.At("pattern"));
  ASSIGN_OR_RETURN(Pattern pattern, Pattern::FromJson(pattern_field));
  ASSIGN_OR_RETURN(const JsonField behavior_field, field.At("behavior"));
  ASSIGN_OR_RETURN(const SplitBehavior behavior, SplitBehaviorFromJson(behavior_field));
  ASSIGN_OR_RETURN(const bool invert, field.BoolOr("invert", false));
  return std::make_unique<const Split>(std::move(pattern), behavior, invert);
}

absl::StatusOr<std::unique_ptr<const Step>> MakeByteLevel(const JsonField& field) {
  ASSIGN_OR_RETURN(const bool add_prefix_space, field.BoolOr("add_prefix_space", true));
  ASSIGN_OR_RETURN(const bool use_regex, field.BoolOr("use_regex", true));
  std::optional<Pattern> pattern;
  if (use_regex) {
    ASSIGN_OR_RETURN(pattern, Pattern::Regex(kGpt2Pattern));
  }
  return std::make_unique<const ByteLevel>(add_prefix_space, std::move(pattern));
}

absl::StatusOr<std::unique_ptr<const Step>> MakeStep(const std::string& type,
                                                     const JsonField& field) {
  if (type == "Split") return MakeSplit(field);
  if (type == "ByteLevel") return MakeByteLevel(field);
  if (type == "Metaspace") {
    ASSIGN_OR_RETURN(const Metaspace metaspace, Metaspace::FromJson(field));
    return std::make_unique<const MetaspaceStep>(metaspace);
  }
  if (type == "Digits") {
    ASSIGN_OR_RETURN(const bool individual, field.BoolOr("individual_digits", false));
    return std::make_unique<const CharacterSplit>(
        IsNumeric, individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
  }
  if (type == "Punctuation") {
    SplitBehavior behavior = SplitBehavior::kIsolated;
    if (const std::optional<JsonField> named = field.Find("behavior"); named.has_value()) {
      ASSIGN_OR_RETURN(behavior, SplitBehaviorFromJson(*named));
    }
    return std::make_unique<const CharacterSplit>(IsPunctuation, behavior);
  }
  if (type == "Whitespace") return std::make_unique<const WordsAndSymbols>();
  if (type == "WhitespaceSplit") {
    return std::make_unique<const CharacterSplit>(IsWhitespace, SplitBehavior::kRemoved);
  }
  return field.Unimplemented(absl::StrCat("the pre-tokenizer ", type, " is not supported"));
}

}  // namespace

PreTokenizer::PreTokenizer() = default;
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

absl::StatusOr<PreTokenizer> PreTokenizer::FromJson(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::vector<Component> components,
                   FlattenSequence(field, "pretokenizers"));
  PreTokenizer pre_tokenizer;
  for (const Component& component : components) {
    ASSIGN_OR_RETURN(std::unique_ptr<const Step> step, MakeStep(component.type, component.field));
    pre_tokenizer.steps_.push_back(std::move(step));
  }
  return pre_tokenizer;
}

bool PreTokenizer::keeps_text() const {
  return std::all_of(steps_.begin(), steps_.end(),
                     [](const auto& step) { return step->keeps_text(); });
}

absl::StatusOr<Pieces> PreTokenizer::Apply(Pieces input, MatchBudget& budget) const {
  for (const std::unique_ptr<const Step>& step : steps_) {
    ASSIGN_OR_RETURN(input, step->Apply(std::move(input), budget));
  }
  return input;
}

}  // namespace sluice::tokenizer
