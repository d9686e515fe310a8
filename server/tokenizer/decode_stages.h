// The steps that a decoder can be made of.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "tokenizer/decoder.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/pattern.h"

namespace sluice::tokenizer {

// Puts a blank between tokens.
std::unique_ptr<const Decoder::Step> MakeJoinStep();

// Tokens written in the byte alphabet become bytes, others their own UTF-8; all together are one
// token of text, with U+FFFD for what is not UTF-8.
std::unique_ptr<const Decoder::Step> MakeByteLevelStep();

// The byte that a token such as <0x0A> stands for.
std::optional<char> ByteOfToken(absl::string_view token);

// Tokens <0x00> to <0xFF> become bytes. A run of them becomes its text, or, unless all of it is
// UTF-8, one U+FFFD for each byte: only the end of the run tells.
std::unique_ptr<const Decoder::Step> MakeByteFallbackStep();

// Joins all tokens.
std::unique_ptr<const Decoder::Step> MakeFuseStep();

// The replacement character becomes a blank; in the first token it is left out, unless `metaspace`
// never puts it in front.
std::unique_ptr<const Decoder::Step> MakeMetaspaceStep(const Metaspace& metaspace);

// Replaces the pattern within each token.
std::unique_ptr<const Decoder::Step> MakeReplaceStep(Pattern pattern, std::string content);

// Takes up to `start` and `stop` times `content` from the beginning and end of each token.
struct StripOptions {
  char32_t content = ' ';
  int64_t start = 0;
  int64_t stop = 0;
};
std::unique_ptr<const Decoder::Step> MakeStripStep(const StripOptions& options);

}  // namespace sluice::tokenizer
