// One tokenizer at work on many threads; ThreadSanitizer watches.
#include <gtest/gtest.h>

#include <thread>

#include "small_tokenizer.h"

namespace sluice::tokenizer {
namespace {

using nlohmann::json;

TEST(ThreadsTest, EncodeAndDecodeFromManyThreadsAtOnce) {
  json patch = {
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer",
       {{"type", "Split"},
        {"pattern", {{"Regex", R"((?i:'s)|\p{L}+|\s+(?!\S)|\s+)"}}},
        {"behavior", "Isolated"}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"added_tokens", {AddedTokenJson(42, "<x>", {"special", "rstrip"})}},
  };
  patch["model"]["vocab"]["ab"] = 41;
  patch["model"]["merges"] = {"a b"};
  const auto tokenizer = MakeTokenizer(patch);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::string text;
  for (int i = 0; i < 20; ++i) text += "ab e\u0301's<x>   cab";
  const auto expected_ids = (*tokenizer)->Encode(text, {});
  ASSERT_TRUE(expected_ids.ok());
  const std::string expected_text = (*tokenizer)->Decode(*expected_ids, {});

  std::vector<std::thread> threads;
  std::vector<int> mistakes(4, 0);
  for (int& count : mistakes) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const auto ids = (*tokenizer)->Encode(text, {});
        if (!ids.ok() || *ids != *expected_ids) ++count;
        IncrementalDetokenizer detokenizer(**tokenizer, {});
        std::string decoded;
        for (const TokenId id : *expected_ids) decoded += detokenizer.Append(id);
        if (decoded + detokenizer.Flush() != expected_text) ++count;
        // Making tokenizers compiles their patterns.
        if (i % 10 == 0 && !MakeTokenizer(patch).ok()) ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(mistakes, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace sluice::tokenizer
