// Turns text into token ids and back, exactly as the checkpoint's tokenizer.json says.
#pragma once

#include <memory>
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

  // One more than the highest id that names a token.
  virtual int vocab_size() const = 0;
};

// Decodes a growing answer: gives out text as soon as it is certain, and never half a character.
//
// Not thread-safe; belongs to one stream. All pieces joined, and Flush() last, equal Decode() of
// all ids.
class IncrementalDetokenizer {
 public:
  // `tokenizer` must outlive this.
  IncrementalDetokenizer(const Tokenizer& tokenizer, Tokenizer::DecodeOptions options);

  // Takes the next token and returns the text that became certain with it; often empty within a
  // character.
  std::string Append(TokenId id);

  // The text still held back, incomplete bytes as U+FFFD. Call once, at the end.
  std::string Flush();

 private:
  std::unique_ptr<DecodeStream> stream_;
};

}  // namespace sluice::tokenizer
