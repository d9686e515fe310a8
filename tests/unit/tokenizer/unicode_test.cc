#include "tokenizer/unicode.h"

#include <gtest/gtest.h>

#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

TEST(UnicodeTest, NormalForms) {
  struct Case {
    std::string text, nfc, nfd, nfkc, nfkd;
  };
  const std::vector<Case> cases = {
      {"abc", "abc", "abc", "abc", "abc"},
      {"\u00e9", "\u00e9", "e\u0301", "\u00e9", "e\u0301"},
      {"\ufb01", "\ufb01", "\ufb01", "fi", "fi"},
      {"\u212b", "\u00c5", "A\u030a", "\u00c5", "A\u030a"},
      // Marks are put in order of their combining classes, and keep it within a class.
      {"q\u0307\u0323", "q\u0323\u0307", "q\u0323\u0307", "q\u0323\u0307", "q\u0323\u0307"},
      {"a\u0301\u0300", "\u00e1\u0300", "a\u0301\u0300", "\u00e1\u0300", "a\u0301\u0300"},
      {"\u1e9b\u0323", "\u1e9b\u0323", "\u017f\u0323\u0307", "\u1e69", "s\u0323\u0307"},
      {"\ud55c", "\ud55c", "\u1112\u1161\u11ab", "\ud55c", "\u1112\u1161\u11ab"},
      // Not composed again.
      {"\u0958", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(Normalize(c.text, NormalForm::kNfc), c.nfc);
    EXPECT_EQ(Normalize(c.text, NormalForm::kNfd), c.nfd);
    EXPECT_EQ(Normalize(c.text, NormalForm::kNfkc), c.nfkc);
    EXPECT_EQ(Normalize(c.text, NormalForm::kNfkd), c.nfkd);
  }
}

// Sorting the marks one by one would take minutes.
TEST(UnicodeTest, NormalizesALongRunOfMarks) {
  constexpr int kPairs = 200'000;
  std::string text = "q";
  for (int i = 0; i < kPairs; ++i) text += "\u0307\u0323";
  std::string sorted = "q";
  for (int i = 0; i < kPairs; ++i) sorted += "\u0323";
  for (int i = 0; i < kPairs; ++i) sorted += "\u0307";
  EXPECT_TRUE(Normalize(text, NormalForm::kNfd) == sorted);
}

TEST(UnicodeTest, LowerCase) { EXPECT_EQ(ToLower("AÉΣ\u0130\u01c5ß漢"), "aéσi\u0307\u01c6ß漢"); }

TEST(UnicodeTest, Properties) {
  for (const char32_t c : {0x20, 0x0A, 0x85, 0xA0, 0x2003, 0x3000}) EXPECT_TRUE(IsWhitespace(c));
  for (const char32_t c : {0x200B, 0x180E, 0xFEFF, 0x41}) EXPECT_FALSE(IsWhitespace(c));
  for (const char32_t c : {0x41, 0x5F, 0x39, 0xE9, 0x301, 0x2163, 0x200D, 0x24B6, 0x6F22}) {
    EXPECT_TRUE(IsWordCharacter(c)) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : {0x2D, 0x20, 0xB2, 0x1F600, 0x200B}) {
    EXPECT_FALSE(IsWordCharacter(c)) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : {0x31, 0xB2, 0xBD, 0x2163, 0x662}) EXPECT_TRUE(IsNumeric(c));
  for (const char32_t c : {0x41, 0x4E00}) EXPECT_FALSE(IsNumeric(c));
  for (const char32_t c : {0x21, 0x24, 0x5F, 0xAB, 0x3001}) EXPECT_TRUE(IsPunctuation(c));
  for (const char32_t c : {0x41, 0x20AC, 0x20}) EXPECT_FALSE(IsPunctuation(c));
}

}  // namespace
}  // namespace sluice::tokenizer
