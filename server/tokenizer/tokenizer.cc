#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decode_stages.h"
#include "tokenizer/decoder.h"
#include "tokenizer/json_depth.h"
#include "tokenizer/json_field.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pattern.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

// The largest published files have some 40 MB.
constexpr uintmax_t kMaxFileBytes = 256 << 20;
constexpr size_t kMaxTextBytes = 256 << 20;

// The components of a tokenizer.json.
struct Components {
  Normalizer normalizer;
  AddedTokens added_tokens;
  PreTokenizer pre_tokenizer;
  BpeModel model;
  PostProcessor post_processor;
  Decoder decoder;
};

class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(Components components) : components_(std::move(components)) {
    const Vocabulary& vocabulary = components_.model.vocabulary();
    tokens_.resize(vocabulary.end_id());
    for (TokenId id = 0; id < vocabulary.end_id(); ++id) tokens_[id].text = vocabulary.Text(id);
    for (const AddedToken& token : components_.added_tokens.tokens()) {
      if (static_cast<size_t>(token.id) >= tokens_.size()) tokens_.resize(token.id + 1);
      tokens_[token.id] = {&token.content, token.special};
    }
    max_token_bytes_ = FindMaxTokenBytes();
  }

  absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text,
                                              EncodeOptions options) const override {
    if (text.size() > kMaxTextBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("text: is longer than ", kMaxTextBytes, " bytes"));
    }
    if (!IsValidUtf8(text)) return absl::InvalidArgumentError("text: is not valid UTF-8");
    MatchBudget budget(text.size());
    BpeEncoder encoder(components_.model);
    for (const AddedTokens::Segment& segment :
         components_.added_tokens.Split(text, /*is_normalized=*/false)) {
      if (segment.id.has_value()) {
        encoder.AppendToken(*segment.id);
        continue;
      }
      RETURN_IF_ERROR(
          EncodeSegment({std::string(text.substr(segment.begin, segment.end - segment.begin)),
                         segment.begin == 0},
                        budget, encoder));
    }
    return components_.post_processor.Apply(encoder.TakeIds(), options.add_special_tokens);
  }

  std::string Decode(absl::Span<const TokenId> ids, DecodeOptions options) const override {
    DecodePipeline pipeline = components_.decoder.Start();
    std::string text;
    for (const TokenId id : ids) {
      if (const std::string* token = TextOf(id, options)) text += pipeline.Push(*token);
    }
    return text + pipeline.Finish();
  }

  std::unique_ptr<DecodeStream> StartDecoding(DecodeOptions options) const override {
    return std::make_unique<Stream>(*this, options);
  }

  size_t ContextLength(absl::Span<const TokenId> prompt, DecodeOptions options) const override {
    if (!components_.decoder.forgets()) return prompt.size();
    // Usually four are enough. As the number doubles, all attempts cost little more than the last.
    for (size_t length = 4; length < prompt.size(); length *= 2) {
      size_t begin = prompt.size() - length;
      while (begin > 0 && !MayBeginContext(prompt[begin], options)) --begin;
      length = prompt.size() - begin;
      if (begin == 0) break;
      DecodePipeline pipeline = components_.decoder.Start();
      for (const TokenId id : prompt.subspan(begin)) {
        const std::string* token = TextOf(id, options);
        if (token != nullptr && HasWholeCharacter(pipeline.Push(*token))) return length;
      }
    }
    return prompt.size();
  }

  std::optional<size_t> max_token_bytes() const override { return max_token_bytes_; }
  int vocab_size() const override { return static_cast<int>(tokens_.size()); }

 private:
  struct Token {
    const std::string* text = nullptr;  // borrowed from components_
    bool special = false;
  };

  class Stream final : public DecodeStream {
   public:
    Stream(const PipelineTokenizer& tokenizer, DecodeOptions options)
        : tokenizer_(tokenizer),
          options_(options),
          pipeline_(tokenizer.components_.decoder.Start()) {}

    std::string Append(TokenId id) override {
      const std::string* const token = tokenizer_.TextOf(id, options_);
      return token == nullptr ? "" : pipeline_.Push(*token);
    }
    std::string Flush() override { return pipeline_.Finish(); }

   private:
    const PipelineTokenizer& tokenizer_;
    const DecodeOptions options_;
    DecodePipeline pipeline_;
  };

  // The longest token's, unless some part of the pipeline may make nothing out of any amount of
  // text.
  std::optional<size_t> FindMaxTokenBytes() const {
    const std::optional<size_t> max_shrink = components_.normalizer.max_shrink();
    const bool keeps_text =
        components_.pre_tokenizer.keeps_text() && components_.post_processor.keeps_text() &&
        components_.model.TokensCoverTheirText(components_.pre_tokenizer.makes_bytes());
    if (!max_shrink.has_value() || !keeps_text) return std::nullopt;
    for (const AddedToken& token : components_.added_tokens.tokens()) {
      if (token.lstrip || token.rstrip) return std::nullopt;
    }
    size_t longest = 1;
    for (const Token& token : tokens_) {
      if (token.text != nullptr) longest = std::max(longest, token.text->size());
    }
    return longest * *max_shrink;
  }

  // Encodes text that stands between two added tokens.
  absl::Status EncodeSegment(NormalizedText segment, MatchBudget& budget,
                             BpeEncoder& encoder) const {
    ASSIGN_OR_RETURN(const NormalizedText normalized,
                     components_.normalizer.Apply(std::move(segment), budget));
    for (const AddedTokens::Segment& part :
         components_.added_tokens.Split(normalized.text, /*is_normalized=*/true)) {
      if (part.id.has_value()) {
        encoder.AppendToken(*part.id);
        continue;
      }
      const size_t length = part.end - part.begin;
      ASSIGN_OR_RETURN(
          const Pieces pieces,
          components_.pre_tokenizer.Apply(
              {normalized.text.substr(part.begin, length),
               {{.begin = 0, .end = length, .at_start = normalized.at_start && part.begin == 0}}},
              budget));
      for (const Pieces::Piece& piece : pieces.pieces) {
        RETURN_IF_ERROR(encoder.Append(
            absl::string_view(pieces.text).substr(piece.begin, piece.end - piece.begin)));
      }
    }
    return absl::OkStatus();
  }

  // See Decoder::forgets.
  bool MayBeginContext(TokenId id, DecodeOptions options) const {
    const std::string* token = TextOf(id, options);
    return token != nullptr && !ByteOfToken(*token).has_value();
  }
  static bool HasWholeCharacter(absl::string_view text) {
    for (size_t i = 0; i < text.size(); i += Utf8Length(text[i])) {
      if (text.substr(i, Utf8Length(text[i])) != kReplacementCharacter) return true;
    }
    return false;
  }

  // nullptr if the token is to be passed over.
  const std::string* TextOf(TokenId id, DecodeOptions options) const {
    if (id < 0 || static_cast<size_t>(id) >= tokens_.size()) return nullptr;
    return options.skip_special_tokens && tokens_[id].special ? nullptr : tokens_[id].text;
  }

  const Components components_;
  std::vector<Token> tokens_;  // by id
  std::optional<size_t> max_token_bytes_;
};

// The member `key` of `file` as a T, or a T that does nothing if there is none.
template <typename T, typename... Arguments>
absl::StatusOr<T> ReadOptional(const JsonField& file, absl::string_view key,
                               const Arguments&... arguments) {
  const std::optional<JsonField> field = file.Find(key);
  if (!field.has_value()) return T();
  return T::FromJson(*field, arguments...);
}

absl::StatusOr<Components> ReadComponents(const JsonField& file) {
  if (!file.value().is_object()) return file.Invalid("must be an object");
  ASSIGN_OR_RETURN(const std::string version, file.StringOr("version", "1.0"));
  if (version != "1.0") {
    return file.Unimplemented(absl::StrCat("version: '", version, "' is not supported"));
  }
  ASSIGN_OR_RETURN(const JsonField model_field, file.At("model"));
  ASSIGN_OR_RETURN(BpeModel model, BpeModel::FromJson(model_field));
  ASSIGN_OR_RETURN(Normalizer normalizer, ReadOptional<Normalizer>(file, "normalizer"));
  ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, ReadOptional<PreTokenizer>(file, "pre_tokenizer"));
  ASSIGN_OR_RETURN(Decoder decoder, ReadOptional<Decoder>(file, "decoder"));
  ASSIGN_OR_RETURN(AddedTokens added_tokens,
                   ReadOptional<AddedTokens>(file, "added_tokens", model.vocabulary(), normalizer));
  TokenId end_id = model.vocabulary().end_id();
  for (const AddedToken& token : added_tokens.tokens()) end_id = std::max(end_id, token.id + 1);
  ASSIGN_OR_RETURN(PostProcessor post_processor,
                   ReadOptional<PostProcessor>(file, "post_processor", end_id));
  return Components{std::move(normalizer), std::move(added_tokens),   std::move(pre_tokenizer),
                    std::move(model),      std::move(post_processor), std::move(decoder)};
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return absl::NotFoundError(absl::StrCat(path, ": there is no such file"));
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.message()));
  if (size > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is longer than ", kMaxFileBytes, " bytes"));
  }
  std::ifstream stream(path, std::ios::binary);
  std::string content(size, '\0');
  if (!stream.read(content.data(), static_cast<std::streamsize>(size))) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  }
  return content;
}

// For tokenizers that do not decode step by step.
class SingleTokenStream final : public DecodeStream {
 public:
  SingleTokenStream(const Tokenizer& tokenizer, Tokenizer::DecodeOptions options)
      : tokenizer_(tokenizer), options_(options) {}

  std::string Append(TokenId id) override {
    return tokenizer_.Decode(absl::MakeConstSpan(&id, 1), options_);
  }
  std::string Flush() override { return ""; }

 private:
  const Tokenizer& tokenizer_;
  const Tokenizer::DecodeOptions options_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "tokenizer.json").string();
  ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
  return Parse(content, path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Parse(absl::string_view json,
                                                            const std::string& name) {
  if (!IsWithinJsonDepth(json)) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": is nested more than ", kMaxJsonDepth, " deep"));
  }
  const nlohmann::json value =
      nlohmann::json::parse(json.begin(), json.end(), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(name, ": is no JSON"));
  ASSIGN_OR_RETURN(Components components, ReadComponents(JsonField(value, name)));
  return std::make_unique<PipelineTokenizer>(std::move(components));
}

std::unique_ptr<DecodeStream> Tokenizer::StartDecoding(DecodeOptions options) const {
  return std::make_unique<SingleTokenStream>(*this, options);
}

size_t Tokenizer::ContextLength(absl::Span<const TokenId>, DecodeOptions) const { return 0; }

DecodeContext ContextOf(const Tokenizer& tokenizer, absl::Span<const TokenId> prompt,
                        Tokenizer::DecodeOptions options) {
  DecodeContext context;
  const auto stream = tokenizer.StartDecoding(options);
  const size_t length = tokenizer.ContextLength(prompt, options);
  for (const TokenId id : prompt.subspan(prompt.size() - length)) {
    if (id < 0 || id >= tokenizer.vocab_size()) continue;
    context.ids.push_back(id);
    stream->Append(id);
  }
  context.open_text = stream->Flush();
  return context;
}

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer& tokenizer,
                                               Tokenizer::DecodeOptions options,
                                               const DecodeContext& context)
    : stream_(tokenizer.StartDecoding(options)), awaited_(context.open_text) {
  for (const TokenId id : context.ids) stream_->Append(id);
}

std::string IncrementalDetokenizer::Append(TokenId id) {
  return WithoutPrompt(stream_->Append(id));
}

std::string IncrementalDetokenizer::Flush() { return WithoutPrompt(stream_->Flush()); }

std::string IncrementalDetokenizer::TakeOpenText() { return std::exchange(open_text_, ""); }

std::string IncrementalDetokenizer::WithoutPrompt(std::string text) {
  if (awaited_.empty()) return text;
  size_t same = 0;
  while (same < text.size() && same < awaited_.size()) {
    const size_t length = Utf8Length(text[same]);
    if (text.compare(same, length, awaited_, same, length) != 0) break;
    same += length;
  }
  open_text_.append(text, 0, same);
  // What comes after the first difference is the answer's, whatever it is.
  awaited_.erase(0, same < text.size() ? std::string::npos : same);
  return text.substr(same);
}

}  // namespace sluice::tokenizer
