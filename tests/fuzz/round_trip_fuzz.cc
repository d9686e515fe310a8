// Any text: tokenizers that lose nothing give it back as it was, whole and piece by piece; others
// refuse nothing but text that is not UTF-8.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

struct Row {
  // Below the project's folder.
  const char* folder;
  // Byte-level without a normalizer: every text has tokens, and every token its own bytes.
  bool is_lossless;
};

constexpr Row kRows[] = {{"models/demo", true},
                         {"tests/golden/tokenizers/gpt2-bytelevel", true},
                         {"tests/golden/tokenizers/o200k-split", true},
                         {"tests/golden/tokenizers/qwen-split", false},
                         {"tests/golden/tokenizers/mistral-metaspace", false},
                         {"tests/golden/tokenizers/llama2-bytefallback", false}};

std::vector<std::unique_ptr<Tokenizer>> LoadAll() {
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  for (const Row& row : kRows) {
    tokenizers.push_back(Tokenizer::Load(std::string(SLUICE_SOURCE_DIR "/") + row.folder).value());
  }
  return tokenizers;
}

void Exercise(const Tokenizer& tokenizer, absl::string_view text, bool is_lossless) {
  const auto ids = tokenizer.Encode(text, {.add_special_tokens = false});
  if (!ids.ok()) {
    CHECK(!IsValidUtf8(text) && absl::IsInvalidArgument(ids.status()));
    return;
  }
  CHECK(IsValidUtf8(text));
  for (const TokenId id : *ids) CHECK(id >= 0 && id < tokenizer.vocab_size());
  const Tokenizer::DecodeOptions options{.skip_special_tokens = false};
  const std::string whole = tokenizer.Decode(*ids, options);
  CHECK(IsValidUtf8(whole));
  CHECK(!is_lossless || whole == text);
  IncrementalDetokenizer detokenizer(tokenizer, options);
  std::string joined;
  for (const TokenId id : *ids) joined += detokenizer.Append(id);
  CHECK(joined + detokenizer.Flush() == whole);
}

}  // namespace
}  // namespace sluice::tokenizer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sluice::tokenizer::kRows;
  static const auto* const tokenizers =
      new std::vector<std::unique_ptr<sluice::tokenizer::Tokenizer>>(sluice::tokenizer::LoadAll());
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  for (size_t i = 0; i < tokenizers->size(); ++i) {
    sluice::tokenizer::Exercise(*(*tokenizers)[i], text, kRows[i].is_lossless);
  }
  return 0;
}
