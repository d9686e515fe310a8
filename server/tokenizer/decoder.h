// The "decoder" of a tokenizer.json: turns the texts of tokens into text, as they come.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tokenizer/json_field.h"

namespace sluice::tokenizer {

// One step of a decoder, at work on one stream of tokens: takes tokens in and hands tokens on to
// the next step as soon as they are certain. Tokens come in fragments, because some steps join all
// tokens into a single one that has no end before the stream ends. Not thread-safe.
class DecodeStage {
 public:
  explicit DecodeStage(DecodeStage* next) : next_(next) {}
  virtual ~DecodeStage() = default;

  // The next fragment of a token, of whole characters, and whether the token ends with it.
  virtual void Push(absl::string_view fragment, bool ends_token) = 0;
  // The end of the stream. REQUIRES: the last fragment ended its token.
  virtual void Finish() { next_->Finish(); }

 protected:
  DecodeStage& next() { return *next_; }

 private:
  DecodeStage* const next_;
};

// All steps of a decoder, at work on one stream. Not thread-safe.
class DecodePipeline {
 public:
  DecodePipeline();
  ~DecodePipeline();
  DecodePipeline(DecodePipeline&&) noexcept;

  // Takes a token's text; returns what became certain of the decoded text.
  std::string Push(absl::string_view token);
  // The rest of the text. Call once, at the end.
  std::string Finish();

 private:
  friend class Decoder;
  class Sink;

  std::unique_ptr<Sink> sink_;
  std::vector<std::unique_ptr<DecodeStage>> stages_;  // each hands on to the one before it
  DecodeStage* first_ = nullptr;                      // where tokens go in
};

// Immutable; usable from any thread. Knows ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip
// and Sequence.
class Decoder {
 public:
  // Joins the tokens with blanks between them.
  Decoder();
  // INVALID_ARGUMENT or UNIMPLEMENTED, naming the field, for what is malformed or not supported.
  static absl::StatusOr<Decoder> FromJson(const JsonField& field);

  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  // For one stream; this decoder must outlive it.
  DecodePipeline Start() const;

  // Whether a stream forgets what is long past. Two streams of such a decoder that end with the
  // same tokens go on in the same way, if the first of these tokens is no byte (see ByteOfToken)
  // and a stream of them alone has given out a character other than U+FFFD.
  bool forgets() const { return forgets_; }

  // One component; Sequences are taken apart.
  class Step {
   public:
    virtual ~Step() = default;
    virtual std::unique_ptr<DecodeStage> Start(DecodeStage* next) const = 0;
    // Whether what it hands on is a single token, which ends with the stream.
    virtual bool fuses() const { return false; }
    // As the decoder's; `fused`: whether it gets a single token.
    virtual bool Forgets(bool /*fused*/) const { return true; }
  };

 private:
  std::vector<std::unique_ptr<const Step>> steps_;
  bool forgets_ = true;
};

}  // namespace sluice::tokenizer
