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
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& folder);

  virtual ~Tokenizer() = default;

  // INVALID_ARGUMENT if `text` is not UTF-8, or if a character has no token and the model has no
  // unknown token.
  virtual absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text,
                                                      EncodeOptions options) const = 0;

  // REQUIRES: every id is in [0, vocab_size()). Ids in that range that name no token are passed
  // over.
  virtual std::string Decode(absl::Span<const TokenId> ids, DecodeOptions options) const = 0;

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
  const Tokenizer& tokenizer_;
  const Tokenizer::DecodeOptions options_;
};

}  // namespace sluice::tokenizer
