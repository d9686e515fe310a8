#include "tokenizer/normalizer.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/component.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

using Step = Normalizer::Step;

// Rewrites the text by a function that cannot fail and keeps its first character's origin.
class Rewrite final : public Step {
 public:
  Rewrite(std::function<std::string(absl::string_view)> rewrite, size_t max_shrink)
      : rewrite_(std::move(rewrite)), max_shrink_(max_shrink) {}
  std::optional<size_t> max_shrink() const override { return max_shrink_; }

  absl::StatusOr<NormalizedText> Apply(NormalizedText input, MatchBudget&) const override {
    input.text = rewrite_(input.text);
    return input;
  }

 private:
  const std::function<std::string(absl::string_view)> rewrite_;
  const size_t max_shrink_;
};

class Strip final : public Step {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  // Blanks in any number vanish.
  std::optional<size_t> max_shrink() const override { return std::nullopt; }

  absl::StatusOr<NormalizedText> Apply(NormalizedText input, MatchBudget&) const override {
    size_t begin = 0;
    size_t end = input.text.size();
    while (left_ && begin < end && IsWhitespace(CodePointAt(input.text, begin))) {
      begin += Utf8Length(input.text[begin]);
    }
    while (right_ && end > begin) {
      const char32_t last = CodePointBefore(input.text, end);
      if (!IsWhitespace(last)) break;
      std::string encoded;
      AppendUtf8(last, encoded);
      end -= encoded.size();
    }
    return NormalizedText{input.text.substr(begin, end - begin), input.at_start && begin == 0};
  }

 private:
  const bool left_;
  const bool right_;
};

class Prepend final : public Step {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  std::optional<size_t> max_shrink() const override { return 1; }

  absl::StatusOr<NormalizedText> Apply(NormalizedText input, MatchBudget&) const override {
    if (!input.text.empty()) input.text.insert(0, prefix_);
    return input;
  }

 private:
  const std::string prefix_;
};

class Replace final : public Step {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::optional<size_t> max_shrink() const override {
    // What matches a regular expression may be of any length.
    if (pattern_.is_regex() || content_.empty()) return std::nullopt;
    return std::max<size_t>(1, (pattern_.literal().size() + content_.size() - 1) / content_.size());
  }

  absl::StatusOr<NormalizedText> Apply(NormalizedText input, MatchBudget& budget) const override {
    ASSIGN_OR_RETURN(const std::vector<Pattern::Span> spans, pattern_.FindAll(input.text, budget));
    NormalizedText output{.at_start = input.at_start};
    output.text.reserve(input.text.size());
    for (const Pattern::Span& span : spans) {
      if (!span.is_match) {
        output.text.append(input.text, span.begin, span.end - span.begin);
        continue;
      }
      // What replaces several characters counts as stemming from the last of them.
      const bool one_character =
          span.begin == span.end || span.begin + Utf8Length(input.text[span.begin]) == span.end;
      if (span.begin == 0 && span.end > 0 && (content_.empty() || !one_character)) {
        output.at_start = false;
      }
      output.text += content_;
    }
    return output;
  }

 private:
  const Pattern pattern_;
  const std::string content_;
};

absl::StatusOr<std::unique_ptr<const Step>> MakeStep(const std::string& type,
                                                     const JsonField& field) {
  const auto rewrite = [](std::function<std::string(absl::string_view)> function,
                          size_t max_shrink) {
    return std::make_unique<const Rewrite>(std::move(function), max_shrink);
  };
  // Every character, of at most four bytes, decomposes into one or more. A composed one is made of
  // at most four (UAX 15), and has two bytes at least.
  const auto normal_form = [&](NormalForm form) {
    const bool composes = form == NormalForm::kNfc || form == NormalForm::kNfkc;
    return rewrite([form](absl::string_view text) { return Normalize(text, form); },
                   composes ? 8 : 4);
  };
  if (type == "NFC") return normal_form(NormalForm::kNfc);
  if (type == "NFD") return normal_form(NormalForm::kNfd);
  if (type == "NFKC") return normal_form(NormalForm::kNfkc);
  if (type == "NFKD") return normal_form(NormalForm::kNfkd);
  if (type == "Lowercase") return rewrite(ToLower, 4);
  if (type == "ByteLevel") {
    return rewrite(
        [](absl::string_view text) {
          std::string result;
          AppendByteAlphabet(text, result);
          return result;
        },
        1);
  }
  if (type == "Strip") {
    ASSIGN_OR_RETURN(const bool left, field.BoolOr("strip_left", true));
    ASSIGN_OR_RETURN(const bool right, field.BoolOr("strip_right", true));
    return std::make_unique<const Strip>(left, right);
  }
  if (type == "Prepend") {
    ASSIGN_OR_RETURN(const JsonField prepend, field.At("prepend"));
    ASSIGN_OR_RETURN(std::string prefix, prepend.String());
    return std::make_unique<const Prepend>(std::move(prefix));
  }
  if (type == "Replace") {
    ASSIGN_OR_RETURN(const JsonField pattern_field, field.At("pattern"));
    ASSIGN_OR_RETURN(Pattern pattern, Pattern::FromJson(pattern_field));
    ASSIGN_OR_RETURN(const JsonField content_field, field.At("content"));
    ASSIGN_OR_RETURN(std::string content, content_field.String());
    return std::make_unique<const Replace>(std::move(pattern), std::move(content));
  }
  return field.Unimplemented(absl::StrCat("the normalizer ", type, " is not supported"));
}

}  // namespace

Normalizer::Normalizer() = default;
Normalizer::~Normalizer() = default;
Normalizer::Normalizer(Normalizer&&) noexcept = default;
Normalizer& Normalizer::operator=(Normalizer&&) noexcept = default;

absl::StatusOr<Normalizer> Normalizer::FromJson(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::vector<Component> components, FlattenSequence(field, "normalizers"));
  Normalizer normalizer;
  for (const Component& component : components) {
    ASSIGN_OR_RETURN(std::unique_ptr<const Step> step, MakeStep(component.type, component.field));
    normalizer.steps_.push_back(std::move(step));
  }
  return normalizer;
}

std::optional<size_t> Normalizer::max_shrink() const {
  // Beyond it the number is of no use, and after some steps more it would overflow.
  constexpr size_t kMost = 1 << 20;
  size_t product = 1;
  for (const std::unique_ptr<const Step>& step : steps_) {
    const std::optional<size_t> factor = step->max_shrink();
    if (!factor.has_value() || *factor > kMost || product > kMost) return std::nullopt;
    product *= *factor;
  }
  return product;
}

absl::StatusOr<NormalizedText> Normalizer::Apply(NormalizedText input, MatchBudget& budget) const {
  for (const std::unique_ptr<const Step>& step : steps_) {
    ASSIGN_OR_RETURN(input, step->Apply(std::move(input), budget));
  }
  return input;
}

}  // namespace sluice::tokenizer
