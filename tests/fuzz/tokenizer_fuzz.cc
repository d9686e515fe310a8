// A tokenizer.json and a text, with a line feed between them: whatever they are, loading ends in a
// tokenizer or an error, and a tokenizer encodes, decodes and streams without harm and without
// contradicting itself.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

void Exercise(const Tokenizer& tokenizer, absl::string_view text) {
  const auto ids = tokenizer.Encode(text, {});
  if (!ids.ok()) return;
  for (const TokenId id : *ids) CHECK(id >= 0 && id < tokenizer.vocab_size());
  for (const bool skip_special_tokens : {true, false}) {
    const Tokenizer::DecodeOptions options{.skip_special_tokens = skip_special_tokens};
    const std::string whole = tokenizer.Decode(*ids, options);
    CHECK(IsValidUtf8(whole));
    IncrementalDetokenizer detokenizer(tokenizer, options);
    std::string joined;
    for (const TokenId id : *ids) joined += detokenizer.Append(id);
    CHECK(joined + detokenizer.Flush() == whole);
  }
}

}  // namespace
}  // namespace sluice::tokenizer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  const size_t end_of_json = std::min(input.find('\n'), input.size());
  const std::string json = input.substr(0, end_of_json);
  const std::string text = input.substr(std::min(end_of_json + 1, input.size()));
  const auto tokenizer = sluice::tokenizer::Tokenizer::Parse(json, "tokenizer.json");
  if (tokenizer.ok()) sluice::tokenizer::Exercise(**tokenizer, text);
  return 0;
}
