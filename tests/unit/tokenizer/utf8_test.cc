#include "tokenizer/utf8.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::tokenizer {
namespace {

const std::string kBad(kReplacementCharacter);

TEST(Utf8Test, CodePointsSurviveWritingAndReading) {
  for (char32_t c = 0; c <= 0x10FFFF; c += c < 0x3000 ? 1 : 97) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text = "x";
    AppendUtf8(c, text);
    ASSERT_TRUE(IsValidUtf8(text)) << std::hex << static_cast<uint32_t>(c);
    ASSERT_EQ(CodePointAt(text, 1), c);
    ASSERT_EQ(CodePointBefore(text, text.size()), c);
    ASSERT_EQ(Utf8Length(text[1]), text.size() - 1);
    const absl::string_view character = absl::string_view(text).substr(1);
    ASSERT_EQ(ValidCharacterLength(character), character.size());
    ASSERT_EQ(ValidCharacterLength(character.substr(0, character.size() - 1)), 0);
    ASSERT_EQ(IsValidUtf8(absl::string_view(text).substr(2)), text.size() == 2);
  }
}

// Bytes and their text, one U+FFFD for each longest beginning of a character.
TEST(Utf8Test, DecoderReplacesWhatIsNotUtf8) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"aé€😀", "aé€😀"},
      {"\x80\xBF", kBad + kBad},
      {"\xC3(", kBad + "("},
      {"\xE2\x82(", kBad + "("},
      {"\xE2\x82\xE2\x82\xAC", kBad + "€"},
      {"\xF0\x9F\x98", kBad},
      {"\xF0\x80\x80\x80", kBad + kBad + kBad + kBad},  // overlong
      {"\xED\xA0\x80", kBad + kBad + kBad},             // a surrogate
      {"\xF4\x90\x80\x80", kBad + kBad + kBad + kBad},  // above U+10FFFF
      {"\xC0\xAF\xFF", kBad + kBad + kBad},
  };
  for (const auto& [bytes, text] : cases) {
    for (size_t cut = 0; cut <= bytes.size(); ++cut) {
      Utf8Decoder decoder;
      std::string decoded = decoder.Append(absl::string_view(bytes).substr(0, cut));
      EXPECT_TRUE(IsValidUtf8(decoded));
      decoded += decoder.Append(absl::string_view(bytes).substr(cut));
      decoded += decoder.Flush();
      EXPECT_EQ(decoded, text) << "cut at " << cut;
    }
  }
}

}  // namespace
}  // namespace sluice::tokenizer
