#include "fake_tokenizer.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "absl/strings/match.h"

namespace sluice::testing {
namespace {

std::string ReplaceBrokenCharacters(const std::string& bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size();) {
    const auto lead = static_cast<uint8_t>(bytes[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    bool whole = length > 0 && i + length <= bytes.size();
    for (size_t n = 1; whole && n < length; ++n) {
      whole = (static_cast<uint8_t>(bytes[i + n]) & 0xC0) == 0x80;
    }
    text += whole ? bytes.substr(i, length) : "\uFFFD";
    i += whole ? length : 1;
  }
  return text;
}

}  // namespace

absl::StatusOr<std::vector<TokenId>> FakeTokenizer::Encode(absl::string_view text,
                                                           EncodeOptions options) const {
  if (absl::StrContains(text, "\x02")) return absl::InvalidArgumentError("no token for this");
  std::vector<TokenId> ids;
  if (options.add_special_tokens) ids.push_back(kBos);
  for (const TokenId id : Bytes(text)) ids.push_back(id == 1 ? kBeyondModel : id);
  return ids;
}

std::string FakeTokenizer::Decode(absl::Span<const TokenId> ids, DecodeOptions options) const {
  std::string bytes;
  for (const TokenId id : ids) {
    EXPECT_GE(id, 0);
    EXPECT_LT(id, kVocabSize);
    if (id < 256) {
      bytes.push_back(static_cast<char>(id));
    } else if (!options.skip_special_tokens) {
      bytes += id == kBos ? "<bos>" : "<eos>";
    }
  }
  return ReplaceBrokenCharacters(bytes);
}

std::vector<TokenId> Bytes(absl::string_view text) {
  std::vector<TokenId> ids;
  for (const char byte : text) ids.push_back(static_cast<uint8_t>(byte));
  return ids;
}

}  // namespace sluice::testing
