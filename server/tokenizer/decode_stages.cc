#include "tokenizer/decode_stages.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "base/check.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

// Makes a stage from the next one with a function.
class StepOf final : public Decoder::Step {
 public:
  using Function = std::function<std::unique_ptr<DecodeStage>(DecodeStage*)>;
  explicit StepOf(Function start, bool fuses = false) : start_(std::move(start)), fuses_(fuses) {}
  std::unique_ptr<DecodeStage> Start(DecodeStage* next) const override { return start_(next); }
  bool fuses() const override { return fuses_; }

 private:
  const Function start_;
  const bool fuses_;
};

// A stage that can only work on whole tokens.
class WholeTokenStage : public DecodeStage {
 public:
  using DecodeStage::DecodeStage;

  void Push(absl::string_view fragment, bool ends_token) final {
    if (ends_token && token_.empty()) {
      PushToken(fragment);
      return;
    }
    token_.append(fragment.data(), fragment.size());
    if (!ends_token) return;
    PushToken(token_);
    token_.clear();
  }

 private:
  virtual void PushToken(absl::string_view token) = 0;

  std::string token_;
};

class JoinStage final : public DecodeStage {
 public:
  using DecodeStage::DecodeStage;

  void Push(absl::string_view fragment, bool ends_token) override {
    if (at_start_of_token_ && !is_first_) next().Push(" ", true);
    next().Push(fragment, ends_token);
    is_first_ = false;
    at_start_of_token_ = ends_token;
  }

 private:
  bool is_first_ = true;
  bool at_start_of_token_ = true;
};

class ByteLevelStage final : public WholeTokenStage {
 public:
  using WholeTokenStage::WholeTokenStage;

  void Finish() override {
    next().Push(decoder_.Flush(), true);
    next().Finish();
  }

 private:
  void PushToken(absl::string_view token) override {
    const std::optional<std::string> bytes = FromByteAlphabet(token);
    const std::string text = decoder_.Append(bytes.has_value() ? absl::string_view(*bytes) : token);
    if (!text.empty()) next().Push(text, false);
  }

  Utf8Decoder decoder_;
};

class ByteFallbackStage final : public WholeTokenStage {
 public:
  using WholeTokenStage::WholeTokenStage;

  void Finish() override {
    EndRun();
    next().Finish();
  }

 private:
  void PushToken(absl::string_view token) override {
    if (const std::optional<char> byte = ByteOfToken(token); byte.has_value()) {
      run_ += *byte;
      return;
    }
    EndRun();
    next().Push(token, true);
  }

  void EndRun() {
    if (IsValidUtf8(run_)) {
      if (!run_.empty()) next().Push(run_, true);
    } else {
      for (size_t i = 0; i < run_.size(); ++i) next().Push(kReplacementCharacter, true);
    }
    run_.clear();
  }

  std::string run_;
};

class FuseStage final : public DecodeStage {
 public:
  using DecodeStage::DecodeStage;

  void Push(absl::string_view fragment, bool) override { next().Push(fragment, false); }
  void Finish() override {
    next().Push("", true);
    next().Finish();
  }
};

class MetaspaceStage final : public DecodeStage {
 public:
  MetaspaceStage(const Metaspace& metaspace, DecodeStage* next)
      : DecodeStage(next),
        replacement_(metaspace.replacement),
        drops_(metaspace.prepend != Metaspace::Prepend::kNever) {}

  void Push(absl::string_view fragment, bool ends_token) override {
    std::string text;
    text.reserve(fragment.size());
    for (size_t i = 0; i < fragment.size();) {
      const size_t length = Utf8Length(fragment[i]);
      if (CodePointAt(fragment, i) != replacement_) {
        text.append(fragment.data() + i, length);
      } else if (!drops_) {
        text += ' ';
      }
      i += length;
    }
    next().Push(text, ends_token);
    if (ends_token) drops_ = false;
  }

 private:
  const char32_t replacement_;
  bool drops_;  // in the first token
};

class ReplaceRegexStage final : public WholeTokenStage {
 public:
  ReplaceRegexStage(const Pattern& pattern, const std::string& content, DecodeStage* next)
      : WholeTokenStage(next), pattern_(pattern), content_(content) {}

 private:
  void PushToken(absl::string_view token) override {
    MatchBudget budget(token.size());
    const auto spans = pattern_.FindAll(token, budget);
    // Decoding cannot fail: a token that the pattern takes too long for stays as it is.
    if (!spans.ok()) return next().Push(token, true);
    std::string text;
    for (const Pattern::Span& span : *spans) {
      if (span.is_match) {
        text += content_;
      } else {
        text.append(token.data() + span.begin, span.end - span.begin);
      }
    }
    next().Push(text, true);
  }

  const Pattern& pattern_;
  const std::string& content_;
};

class ReplaceLiteralStage final : public DecodeStage {
 public:
  ReplaceLiteralStage(const std::string& literal, const std::string& content, DecodeStage* next)
      : DecodeStage(next), literal_(literal), content_(content) {}

  void Push(absl::string_view fragment, bool ends_token) override {
    held_.append(fragment.data(), fragment.size());
    std::string text;
    size_t done = 0;
    for (size_t found; (found = held_.find(literal_, done)) != std::string::npos;) {
      text.append(held_, done, found - done);
      text += content_;
      done = found + literal_.size();
    }
    // The end may be the beginning of a match that the next fragment completes.
    size_t keep = held_.size();
    if (!ends_token) keep = std::max(done, held_.size() - LengthOfHeldMatch(done));
    text.append(held_, done, keep - done);
    held_.erase(0, keep);
    if (ends_token || !text.empty()) next().Push(text, ends_token);
  }

 private:
  size_t LengthOfHeldMatch(size_t done) const {
    for (size_t length = std::min(literal_.size() - 1, held_.size() - done); length > 0; --length) {
      if (held_.compare(held_.size() - length, length, literal_, 0, length) == 0) return length;
    }
    return 0;
  }

  const std::string& literal_;
  const std::string& content_;
  std::string held_;
};

class StripStage final : public DecodeStage {
 public:
  StripStage(const StripOptions& options, DecodeStage* next)
      : DecodeStage(next), options_(options), start_left_(options.start) {
    AppendUtf8(options.content, content_);
  }

  void Push(absl::string_view fragment, bool ends_token) override {
    std::string text;
    for (size_t i = 0; i < fragment.size();) {
      const size_t length = Utf8Length(fragment[i]);
      if (CodePointAt(fragment, i) != options_.content) {
        start_left_ = 0;
        for (; held_ > 0; --held_) text += content_;
        text.append(fragment.data() + i, length);
      } else if (start_left_ > 0) {
        --start_left_;
      } else if (held_ < options_.stop) {
        ++held_;
      } else {
        text += content_;
      }
      i += length;
    }
    if (ends_token) {
      start_left_ = options_.start;
      held_ = 0;
    }
    if (ends_token || !text.empty()) next().Push(text, ends_token);
  }

 private:
  const StripOptions options_;
  std::string content_;
  int64_t start_left_;  // what may still be taken from the beginning of this token
  int64_t held_ = 0;    // times `content` that may turn out to be the token's end
};

template <typename Stage>
std::unique_ptr<const Decoder::Step> MakeStep(bool fuses = false) {
  return std::make_unique<const StepOf>(
      [](DecodeStage* next) { return std::make_unique<Stage>(next); }, fuses);
}

class ReplaceStep final : public Decoder::Step {
 public:
  ReplaceStep(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  std::unique_ptr<DecodeStage> Start(DecodeStage* next) const override {
    if (pattern_.is_regex()) return std::make_unique<ReplaceRegexStage>(pattern_, content_, next);
    return std::make_unique<ReplaceLiteralStage>(pattern_.literal(), content_, next);
  }
  // Within a text, where a literal of several characters is found depends on where it was found
  // before; and who replaces U+FFFD hides that a character is not whole.
  bool Forgets(bool fused) const override {
    if (!fused) return true;
    if (pattern_.is_regex() || pattern_.literal() == kReplacementCharacter) return false;
    const std::string& literal = pattern_.literal();
    return !literal.empty() && literal.size() == Utf8Length(literal[0]);
  }

 private:
  const Pattern pattern_;
  const std::string content_;
};

}  // namespace

std::unique_ptr<const Decoder::Step> MakeJoinStep() { return MakeStep<JoinStage>(); }
std::unique_ptr<const Decoder::Step> MakeByteLevelStep() {
  return MakeStep<ByteLevelStage>(/*fuses=*/true);
}
std::unique_ptr<const Decoder::Step> MakeByteFallbackStep() {
  return MakeStep<ByteFallbackStage>();
}
std::unique_ptr<const Decoder::Step> MakeFuseStep() { return MakeStep<FuseStage>(/*fuses=*/true); }

std::optional<char> ByteOfToken(absl::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return std::nullopt;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
  };
  const int high = digit(token[3]);
  const int low = digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high << 4 | low);
}

std::unique_ptr<const Decoder::Step> MakeMetaspaceStep(const Metaspace& metaspace) {
  return std::make_unique<const StepOf>(
      [metaspace](DecodeStage* next) { return std::make_unique<MetaspaceStage>(metaspace, next); });
}

std::unique_ptr<const Decoder::Step> MakeReplaceStep(Pattern pattern, std::string content) {
  return std::make_unique<const ReplaceStep>(std::move(pattern), std::move(content));
}

std::unique_ptr<const Decoder::Step> MakeStripStep(const StripOptions& options) {
  return std::make_unique<const StepOf>(
      [options](DecodeStage* next) { return std::make_unique<StripStage>(options, next); });
}

}  // namespace sluice::tokenizer
