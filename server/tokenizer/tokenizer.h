// Turns text into token ids and back, exactly as the checkpoint's tokenizer.json says.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/token.h"

namespace sluice::tokenizer {

// Decodes one growing list of tokens. Not thread-safe; IncrementalDetokenizer below is how to use
// it.
class DecodeStream {
 public:
  virtual ~DecodeStream() = default;
  // As IncrementalDetokenizer's.
  virtual std::string Append(TokenId id) = 0;
  virtual std::string Flush() = 0;
};

// Immutable once made; all methods may be called from any thread.
//
// The pipeline is that of Hugging Face's tokenizers library: cut out added tokens, normalize,
// pre-tokenize, apply the BPE merges, post-process; decoding runs the decoder's steps over the
// tokens.
class Tokenizer {
 public:
  struct EncodeOptions {
    // Whether the post-processor may add its tokens (begin of sequence and the like).
    bool add_special_tokens = true;
  };
  struct DecodeOptions {
    // Leave out added tokens that are marked special.
    bool skip_special_tokens = true;
  };

  // Reads `folder`/tokenizer.json. NOT_FOUND if there is none; INVALID_ARGUMENT, naming the file
  // and the field, if it is malformed; UNIMPLEMENTED, naming the component, if it asks for one that
  // is not supported.
  // What the file says of truncation and padding is not for a server and passed over.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& folder);

  // The same from the content of a tokenizer.json, which error messages call `name`.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Parse(absl::string_view json,
                                                          const std::string& name);

  virtual ~Tokenizer() = default;

  // A character that has no token becomes the model's unknown token, or is left out if the model
  // has none. INVALID_ARGUMENT if `text` is not UTF-8, or takes the tokenizer's regular expressions
  // too many steps.
  virtual absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text,
                                                      EncodeOptions options) const = 0;

  // REQUIRES: every id is in [0, vocab_size()). Ids in that range that name no token are passed
  // over.
  virtual std::string Decode(absl::Span<const TokenId> ids, DecodeOptions options) const = 0;

  // For IncrementalDetokenizer; this tokenizer must outlive the stream. As it stands, every token
  // is decoded by itself.
  virtual std::unique_ptr<DecodeStream> StartDecoding(DecodeOptions options) const;

  // How many of the last tokens of `prompt` decide how the tokens after them are decoded; ids
  // outside of [0, vocab_size()) are passed over. As it stands, none.
  virtual size_t ContextLength(absl::Span<const TokenId> prompt, DecodeOptions options) const;

  // A token stands for at most so many bytes of a text, so that a long text is known to have many
  // tokens before it is encoded; nullopt if there is no such number, as it stands.
  virtual std::optional<size_t> max_token_bytes() const { return std::nullopt; }

  // One more than the highest id that names a token.
  virtual int vocab_size() const = 0;
};

// What the text of an answer takes from its prompt.
struct DecodeContext {
  // The last tokens of the prompt: those that decide how the tokens after them are decoded.
  std::vector<TokenId> ids;
  // The end of the prompt's text, as far as tokens after it may change it: such as U+FFFD for the
  // first bytes of a character.
  std::string open_text;
};

// Of the tokens `prompt`; ids outside of [0, vocab_size()) are passed over.
DecodeContext ContextOf(const Tokenizer& tokenizer, absl::Span<const TokenId> prompt,
                        Tokenizer::DecodeOptions options);

// Decodes a growing answer: gives out text as soon as it is certain, and never half a character.
//
// The text is that of prompt and answer decoded together, from where it differs from that of the
// prompt alone: so a blank between the two is there, and a character that the answer completes
// belongs to it. Without a prompt, all pieces joined, and Flush() last, equal Decode() of all ids.
//
// Not thread-safe; belongs to one stream.
class IncrementalDetokenizer {
 public:
  // `tokenizer` must outlive this. `context` is that of the prompt, for the same options.
  IncrementalDetokenizer(const Tokenizer& tokenizer, Tokenizer::DecodeOptions options,
                         const DecodeContext& context = {});

  // Takes the next token and returns the text that became certain with it; often empty within a
  // character.
  std::string Append(TokenId id);

  // The text still held back, incomplete bytes as U+FFFD. Call once, at the end.
  std::string Flush();

  // What has turned out to stay of the prompt's open text, since the last call; it comes before all
  // that Append and Flush have returned.
  std::string TakeOpenText();

 private:
  // Takes off what is the prompt's.
  std::string WithoutPrompt(std::string text);

  std::unique_ptr<DecodeStream> stream_;
  // The prompt's open text that has not come yet, and what has come of it.
  std::string awaited_;
  std::string open_text_;
};

}  // namespace sluice::tokenizer
