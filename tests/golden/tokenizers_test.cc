// Every tokenizer of the golden data must give exactly the reference's ids and texts.
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "golden_dir.h"
#include "tokenizer/tokenizer.h"

namespace sluice::golden {
namespace {

using nlohmann::json;
using tokenizer::IncrementalDetokenizer;
using tokenizer::Tokenizer;
using Ids = std::vector<TokenId>;

// A broken kind fails in thousands of cases; the first few tell enough.
constexpr int kMaxReports = 5;

json ReadJson(const std::filesystem::path& path) {
  std::ifstream stream(path);
  return json::parse(stream, nullptr, /*allow_exceptions=*/false);
}

json ReadGzippedJson(const std::filesystem::path& path) {
  const gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) return {};
  std::string text;
  std::vector<char> buffer(1 << 16);
  int read;
  while ((read = gzread(file, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0) {
    text.append(buffer.data(), static_cast<size_t>(read));
  }
  gzclose(file);
  return json::parse(text, nullptr, /*allow_exceptions=*/false);
}

class TokenizersTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    folder_ = GoldenDir() / "tokenizers" / GetParam();
    auto tokenizer = Tokenizer::Load(folder_);
    const json file = ReadJson(folder_ / "tokenizer.json");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    for (const auto& [token, id] : file["model"]["vocab"].items()) {
      if (absl::StartsWith(token, "<0x")) byte_tokens_.insert(id.get<TokenId>());
    }
  }

  void TearDown() override {
    if (num_failures_ > kMaxReports) ADD_FAILURE() << num_failures_ << " failures in all";
  }

  template <typename T>
  void ExpectSame(const T& actual, const T& expected, const std::string& what) {
    if (actual == expected || ++num_failures_ > kMaxReports) return;
    ADD_FAILURE() << what << "\n  actual:   " << json(actual).dump()
                  << "\n  expected: " << json(expected).dump();
  }

  void ExpectEncodes(const std::string& text, bool add_special_tokens, const Ids& expected) {
    const auto ids = tokenizer_->Encode(text, {.add_special_tokens = add_special_tokens});
    ASSERT_TRUE(ids.ok()) << ids.status();
    ExpectSame(*ids, expected,
               absl::StrCat("ids of ", json(text).dump(),
                            add_special_tokens ? " with special tokens" : ""));
  }

  void ExpectDecodes(const Ids& ids, bool skip_special_tokens, const std::string& expected) {
    ExpectSame(tokenizer_->Decode(ids, {.skip_special_tokens = skip_special_tokens}), expected,
               absl::StrCat("text of [", absl::StrJoin(ids, ", "), "]",
                            skip_special_tokens ? "" : " with special tokens"));
  }

  // Text may be given out at the same token as in the reference, or later where it hangs on a run
  // of byte tokens (which special tokens do not end), never earlier.
  void ExpectStreams(const Ids& ids, const json& pieces, const json& flush) {
    IncrementalDetokenizer detokenizer(*tokenizer_, {});
    std::string actual;
    std::string expected;
    for (size_t i = 0; i < ids.size(); ++i) {
      actual += detokenizer.Append(ids[i]);
      if (pieces.is_null()) continue;
      expected += pieces[i].get<std::string>();
      const bool may_be_late = byte_tokens_.count(ids[i]) > 0 || pieces[i] == "";
      // Lengths will do: all of it is compared below.
      if (may_be_late ? actual.size() > expected.size() : actual.size() != expected.size()) {
        ExpectSame(actual, expected,
                   absl::StrCat("text after ", i + 1, " of [", absl::StrJoin(ids, ", "), "]"));
      }
    }
    actual += detokenizer.Flush();
    if (!pieces.is_null()) expected += flush.get<std::string>();
    ExpectSame(actual, pieces.is_null() ? tokenizer_->Decode(ids, {}) : expected,
               absl::StrCat("all text of [", absl::StrJoin(ids, ", "), "]"));
  }

  std::filesystem::path folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::set<TokenId> byte_tokens_;
  int num_failures_ = 0;
};

TEST_P(TokenizersTest, EncodesAndDecodesEveryCase) {
  const json cases = ReadJson(folder_ / "cases.json");
  ASSERT_TRUE(cases["cases"].is_array() && !cases["cases"].empty());
  for (const json& c : cases["cases"]) {
    const auto ids = c["ids"].get<Ids>();
    ExpectEncodes(c["text"], false, ids);
    ExpectEncodes(c["text"], true, c["ids_with_special"].get<Ids>());
    ExpectDecodes(c["ids_with_special"], true, c["decoded"]);
    ExpectDecodes(c["ids_with_special"], false, c["decoded_with_special"]);
    ExpectStreams(ids, c["pieces"], c["flush"]);
  }
  for (const json& c : cases["decode_cases"]) {
    const auto ids = c["ids"].get<Ids>();
    ExpectDecodes(ids, true, c["decoded"]);
    ExpectDecodes(ids, false, c["decoded_with_special"]);
    ExpectStreams(ids, c["pieces"], c["flush"]);
  }
}

TEST_P(TokenizersTest, EncodesAndDecodesRandomText) {
  const json random = ReadGzippedJson(folder_ / "random.json.gz");
  if (random.is_null()) GTEST_SKIP() << "there is no random.json.gz";
  ASSERT_TRUE(random["cases"].is_array() && !random["cases"].empty());
  for (const json& c : random["cases"]) {
    const auto ids = c[1].get<Ids>();
    ExpectEncodes(c[0], false, ids);
    ExpectDecodes(ids, false, c[2]);
    IncrementalDetokenizer detokenizer(*tokenizer_, {.skip_special_tokens = false});
    std::string streamed;
    for (const TokenId id : ids) streamed += detokenizer.Append(id);
    streamed += detokenizer.Flush();
    ExpectSame(streamed, c[2].get<std::string>(), "streamed text");
  }
}

// Prompt and answer together have the reference's text, wherever the one ends and the other begins.
TEST_P(TokenizersTest, AnswersGoOnWhereTheirPromptsEnd) {
  constexpr uint32_t kSeed = 11;
  const json random_cases = ReadGzippedJson(folder_ / "random.json.gz");
  if (random_cases.is_null()) GTEST_SKIP() << "there is no random.json.gz";
  std::mt19937 random(kSeed);
  const std::vector<TokenId> byte_tokens(byte_tokens_.begin(), byte_tokens_.end());
  for (const json& c : random_cases["cases"]) {
    auto ids = c[1].get<Ids>();
    std::string whole = c[2].get<std::string>();
    const bool as_a_model = random() % 2 == 0;
    if (as_a_model) {
      // Any token may follow any other.
      for (TokenId& id : ids) {
        if (random() % 3 == 0) id = static_cast<TokenId>(random() % tokenizer_->vocab_size());
        if (random() % 4 == 0 && !byte_tokens.empty()) {
          id = byte_tokens[random() % byte_tokens.size()];
        }
      }
      whole = tokenizer_->Decode(ids, {.skip_special_tokens = false});
    }
    const size_t cut = random() % (ids.size() + 1);
    const auto prompt = absl::MakeConstSpan(ids).first(cut);
    const Tokenizer::DecodeOptions options{.skip_special_tokens = false};
    const tokenizer::DecodeContext context = tokenizer::ContextOf(*tokenizer_, prompt, options);
    IncrementalDetokenizer detokenizer(*tokenizer_, options, context);
    std::string answer;
    for (const TokenId id : absl::MakeConstSpan(ids).subspan(cut)) answer += detokenizer.Append(id);
    answer += detokenizer.Flush();
    const std::string alone = tokenizer_->Decode(prompt, options);
    const std::string echo = alone.substr(0, alone.size() - context.open_text.size());
    const std::string what =
        absl::StrCat("text of [", absl::StrJoin(ids, ", "), "], cut at ", cut, ", seed ", kSeed);
    ExpectSame(absl::StrCat(echo, detokenizer.TakeOpenText(), answer), whole, what);
    if (absl::StartsWith(whole, alone)) ExpectSame(answer, whole.substr(alone.size()), what);
  }
}

TEST_P(TokenizersTest, NoTokenStandsForMoreThanItsMaximum) {
  const json random = ReadGzippedJson(folder_ / "random.json.gz");
  if (random.is_null()) GTEST_SKIP() << "there is no random.json.gz";
  ASSERT_TRUE(tokenizer_->max_token_bytes().has_value());
  for (const json& c : random["cases"]) {
    EXPECT_LE(c[0].get<std::string>().size(), c[1].size() * *tokenizer_->max_token_bytes());
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, TokenizersTest, testing::ValuesIn(GoldenCases("tokenizers")),
                         [](const auto& kind) { return TestName(kind.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TokenizersTest);

// The prompts and completions that ship with the demo model.
TEST(DemoTokenizerTest, MatchesItsGoldenFile) {
  const std::string folder = SLUICE_SOURCE_DIR "/models/demo";
  const auto tokenizer = Tokenizer::Load(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const json golden = ReadJson(folder + "/golden.json");
  ASSERT_TRUE(golden["cases"].is_array() && !golden["cases"].empty());
  for (const json& c : golden["cases"]) {
    const auto ids = (*tokenizer)->Encode(c["prompt"].get<std::string>(), {});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, c["prompt_ids"].get<Ids>()) << c["prompt"];
    EXPECT_EQ((*tokenizer)->Decode(c["completion_ids"].get<Ids>(), {}), c["completion"]);
  }
}

}  // namespace
}  // namespace sluice::golden
