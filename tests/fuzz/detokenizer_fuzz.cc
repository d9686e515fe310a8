// A tokenizer.json and any token ids, with a line feed between them, two bytes to an id: whatever a
// model generates, the pieces of its answer are whole characters and joined are the answer.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/types/span.h"
#include "base/check.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

// `whole`: the text of `ids`, of which the first `cut` are a prompt and the others its answer.
void CheckCut(const Tokenizer& tokenizer, Tokenizer::DecodeOptions options,
              const std::vector<TokenId>& ids, size_t cut, const std::string& whole) {
  const auto prompt = absl::MakeConstSpan(ids).first(cut);
  const DecodeContext context = ContextOf(tokenizer, prompt, options);
  IncrementalDetokenizer detokenizer(tokenizer, options, context);
  std::string answer;
  for (size_t i = cut; i < ids.size(); ++i) {
    answer += detokenizer.Append(ids[i]);
    CHECK(IsValidUtf8(answer));
  }
  answer += detokenizer.Flush();
  std::string text = tokenizer.Decode(prompt, options);
  CHECK(absl::EndsWith(text, context.open_text));
  text.resize(text.size() - context.open_text.size());
  text += detokenizer.TakeOpenText();
  CHECK(text + answer == whole);
}

void Exercise(const Tokenizer& tokenizer, absl::string_view bytes) {
  std::vector<TokenId> ids;
  for (size_t i = 0; i + 1 < bytes.size() && tokenizer.vocab_size() > 0; i += 2) {
    const int number = static_cast<uint8_t>(bytes[i]) | static_cast<uint8_t>(bytes[i + 1]) << 8;
    ids.push_back(number % tokenizer.vocab_size());
  }
  for (const bool skip_special_tokens : {true, false}) {
    const Tokenizer::DecodeOptions options{.skip_special_tokens = skip_special_tokens};
    const std::string whole = tokenizer.Decode(ids, options);
    CHECK(IsValidUtf8(whole));
    IncrementalDetokenizer detokenizer(tokenizer, options);
    std::string joined;
    for (const TokenId id : ids) {
      const std::string piece = detokenizer.Append(id);
      CHECK(IsValidUtf8(piece));
      joined += piece;
    }
    const std::string rest = detokenizer.Flush();
    CHECK(IsValidUtf8(rest));
    CHECK(joined + rest == whole);
    if (!ids.empty()) CheckCut(tokenizer, options, ids, bytes.size() % ids.size(), whole);
  }
}

}  // namespace
}  // namespace sluice::tokenizer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  const size_t end_of_json = std::min(input.find('\n'), input.size());
  const std::string ids = input.substr(std::min(end_of_json + 1, input.size()));
  const auto tokenizer =
      sluice::tokenizer::Tokenizer::Parse(input.substr(0, end_of_json), "tokenizer.json");
  if (tokenizer.ok()) sluice::tokenizer::Exercise(**tokenizer, ids);
  return 0;
}
