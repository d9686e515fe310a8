// What the KV cache's blocks do to an answer: nothing. Prefixes that are found, and sequences that
// give up their blocks and are computed anew.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/engine_core.h"
#include "test_engine.h"

namespace sluice::scheduler {
namespace {

using testing::FakeLogprob;

Request WithTokens(absl::string_view id, int prompt_tokens, int max_tokens, TokenId first = 0) {
  Request request = MakeRequest(id, prompt_tokens, max_tokens);
  for (int i = 0; i < prompt_tokens; ++i) request.prompt[i] = first + i;
  return request;
}

int CachedTokens(Reader& reader) {
  return std::get<StartedEvent>(reader.events().at(0)).cached_prompt_tokens;
}

TEST(EngineCacheTest, OnlyMissingTokensAreComputed) {
  struct Row {
    std::string claim;
    int prompt_tokens;  // of the second request; the first has 64
    int cached;
  };
  const Row table[] = {
      {"shorter than a block", 15, 0}, {"exactly a block: its last token must be computed", 16, 0},
      {"a block and a token", 17, 16}, {"within the first prompt", 63, 48},
      {"the same prompt", 64, 48},     {"the same prompt and more", 65, 64},
      {"much more", 200, 64},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.claim);
    CountingEngine engine;
    Reader first, second, alone;
    EXPECT_EQ(engine.RunAlone(WithTokens("a", 64, 1), first), 64u);
    EXPECT_EQ(CachedTokens(first), 0);
    const size_t computed = engine.RunAlone(WithTokens("b", row.prompt_tokens, 1), second);
    EXPECT_EQ(computed, static_cast<size_t>(row.prompt_tokens - row.cached));
    EXPECT_EQ(CachedTokens(second), row.cached);
    CountingEngine fresh;
    fresh.RunAlone(WithTokens("b", row.prompt_tokens, 1), alone);
    EXPECT_EQ(second.words(), alone.words());
    const EngineLoad load = engine.core.Load();
    EXPECT_EQ(load.prompt_tokens, 64 + row.prompt_tokens);
    EXPECT_EQ(load.cached_prompt_tokens, row.cached);
  }
}

TEST(EngineCacheTest, AnAnswerIsFoundToo) {
  CountingEngine engine;
  Reader first, second;
  Request request = WithTokens("a", 20, 30);
  std::vector<TokenId> conversation = request.prompt;
  engine.RunAlone(std::move(request), first);
  for (const TokenId token : TokensOf(first.events())) conversation.push_back(token);
  conversation.push_back(7);
  request = WithTokens("b", 1, 1);
  request.prompt = conversation;
  EXPECT_EQ(engine.RunAlone(std::move(request), second), 51u - 48);
}

TEST(EngineCacheTest, ARunningPromptIsFoundAsFarAsItIsComputed) {
  CountingEngine engine({.max_step_tokens = 32, .max_context = 1000});
  Reader first, second;
  engine.Submit(WithTokens("a", 100, 5), first);
  engine.Steps(2);  // 64 tokens
  engine.Submit(WithTokens("b", 100, 5), second);
  engine.Steps(20);
  EXPECT_EQ(first.words(), second.words());
  // They need not have begun together, but nothing before was computed twice.
  EXPECT_GE(CachedTokens(second), 64);
  engine.ExpectIdle();
}

TEST(EngineCacheTest, IsLeftAloneByWhomItMayNotServe) {
  struct Row {
    std::string claim;
    void (*change_first)(Request&);
    void (*change_second)(Request&);
    int cached;
  };
  const auto nothing = [](Request&) {};
  const auto bypass = [](Request& r) { r.bypass_prefix_cache = true; };
  const auto salt = [](Request& r) { r.cache_salt = "mine"; };
  const auto other_salt = [](Request& r) { r.cache_salt = "yours"; };
  const auto logprobs = [](Request& r) { r.prompt_logprobs = 0; };
  const Row table[] = {
      {"both may", nothing, nothing, 32},
      {"the first leaves nothing", bypass, nothing, 0},
      {"the second looks for nothing", nothing, bypass, 0},
      {"a salt finds only its own", nothing, salt, 0},
      {"nobody finds a salt's", salt, nothing, 0},
      {"salts are apart", salt, other_salt, 0},
      {"one salt", salt, salt, 32},
      {"prompt log-probabilities have to be computed", nothing, logprobs, 0},
      {"but leave their prompt behind", logprobs, nothing, 32},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.claim);
    CountingEngine engine;
    Reader first, second;
    Request request = WithTokens("a", 40, 3);
    row.change_first(request);
    engine.RunAlone(std::move(request), first);
    request = WithTokens("b", 40, 3);
    row.change_second(request);
    EXPECT_EQ(engine.RunAlone(std::move(request), second), static_cast<size_t>(42 - row.cached));
    EXPECT_EQ(CachedTokens(second), row.cached);
    EXPECT_EQ(TokensOf(first.events()), TokensOf(second.events()));
  }
}

TEST(EngineCacheTest, AWarmPrefixTakesNoBlocksFromOthers) {
  // 10 blocks; the beginning of 6 blocks is held by the first, so the second fits beside it.
  CountingEngine engine({.max_context = 160}, 10);
  Reader first, second;
  engine.Submit(WithTokens("a", 100, 40), first);
  engine.Steps(1);
  engine.Submit(WithTokens("b", 100, 5), second);
  engine.Steps(1);
  EXPECT_EQ(CachedTokens(second), 96);
  EXPECT_EQ(engine.core.Load().used_kv_blocks(), 8);
  engine.Steps(60);
  EXPECT_EQ(engine.core.Load().preemptions, 0);
  engine.ExpectIdle();
}

// What `requests` are answered when each runs alone, and together in a cache of `num_kv_blocks`.
void ExpectSameAnswers(const std::vector<Request>& requests, int num_kv_blocks,
                       int64_t min_preemptions) {
  CountingEngine together({.max_step_tokens = 64, .max_context = 10'000}, num_kv_blocks);
  std::vector<Reader> readers(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) together.Submit(requests[i], readers[i]);
  for (int step = 0;
       step < 2000 &&
       together.core.Load().running_requests + together.core.Load().waiting_requests > 0;
       ++step) {
    together.Steps(1);
  }
  together.ExpectIdle();
  EXPECT_GE(together.core.Load().preemptions, min_preemptions);
  for (size_t i = 0; i < requests.size(); ++i) {
    CountingEngine alone;
    Reader reader;
    alone.RunAlone(requests[i], reader);
    EXPECT_EQ(readers[i].words(), reader.words()) << requests[i].id;
  }
}

TEST(PreemptionTest, ChangesNoAnswer) {
  for (const bool bypass : {false, true}) {
    std::vector<Request> requests;
    for (int i = 0; i < 6; ++i) {
      requests.push_back(WithTokens(absl::StrCat(i), 20 + i, 60, 100 * i));
      requests.back().bypass_prefix_cache = bypass;
      requests.back().sampling = {.temperature = 1, .seed = static_cast<uint64_t>(i)};
    }
    ExpectSameAnswers(requests, 12, 2);
  }
}

TEST(PreemptionTest, RequestsThatFillTheCacheAloneAllGetOn) {
  std::vector<Request> requests;
  for (int i = 0; i < 4; ++i) requests.push_back(WithTokens(absl::StrCat(i), 16, 80, 100 * i));
  ExpectSameAnswers(requests, 6, 3);
}

TEST(PreemptionTest, PromptLogprobsComeOnceAndWhole) {
  // The first's answer takes the blocks that the second computes its long prompt in.
  CountingEngine engine({.max_step_tokens = 8, .max_context = 200}, 12);
  Reader first, second;
  engine.Submit(WithTokens("first", 8, 100), first);
  engine.Steps(60);
  Request request = WithTokens("second", 90, 2, 500);
  request.prompt_logprobs = 0;
  const std::vector<TokenId> prompt = request.prompt;
  engine.Submit(std::move(request), second);
  engine.Steps(300);
  engine.ExpectIdle();
  ASSERT_EQ(second.events().size(), 5u) << second.words();
  const auto& logprobs = std::get<PromptLogprobsEvent>(second.events()[1]).logprobs;
  ASSERT_EQ(logprobs.size(), prompt.size() - 1);
  for (size_t i = 0; i + 1 < prompt.size(); ++i) {
    EXPECT_EQ(logprobs[i].token, prompt[i + 1]);
    EXPECT_EQ(logprobs[i].logprob, FakeLogprob(prompt[i], prompt[i + 1], 0).logprob);
  }
}

TEST(PreemptionTest, TheYoungestOfTheLowestPriorityGivesWay) {
  // Three streams that fill all blocks between them: then each needs another.
  struct Row {
    std::string claim;
    std::vector<int> priorities;
    std::vector<bool> goes_on;  // after the first preemption
  };
  const Row table[] = {
      {"the youngest", {0, 0, 0}, {true, false, false}},
      {"the lowest priority, though it is the oldest", {0, 1, 1}, {false, true, false}},
      {"the youngest of the lowest", {1, 0, 0}, {true, false, false}},
      {"the highest goes on", {0, 0, 1}, {false, false, true}},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.claim);
    CountingEngine engine({.max_context = 64}, 6);
    std::vector<Reader> readers(3);
    for (int i = 0; i < 3; ++i) {
      Request request = WithTokens(absl::StrCat(i), 4, 44, 100 * i);
      request.priority = row.priorities[i];
      request.bypass_prefix_cache = true;
      engine.Submit(std::move(request), readers[i]);
    }
    engine.Steps(29);  // 32 positions in 2 blocks each: all are taken
    EXPECT_EQ(engine.core.Load().preemptions, 0);
    EXPECT_EQ(engine.core.Load().free_kv_blocks, 0);
    std::vector<size_t> before;
    for (Reader& reader : readers) before.push_back(reader.events().size());
    engine.Steps(1);
    // Two blocks came back, for the two that rank first.
    EXPECT_EQ(engine.core.Load().preemptions, 1);
    EXPECT_EQ(engine.core.Load().waiting_requests, 1);
    engine.Steps(13);
    for (int i = 0; i < 3; ++i) {
      if (row.goes_on[i]) {
        EXPECT_EQ(readers[i].events().size(), before[i] + 14) << i;
      }
    }
    engine.Steps(200);
    for (Reader& reader : readers) EXPECT_EQ(reader.events().size(), 46u);
    engine.ExpectIdle();
  }
}

TEST(PreemptionTest, OnlyAsManyAsNeededGiveWay) {
  // Three prompts of one block each. The second and the third get their second block in steps 6 and
  // 7, the first needs one in step 15, when the others have room for all that they will generate.
  struct Row {
    std::string claim;
    int num_kv_blocks;
    int64_t preemptions;
  };
  const Row table[] = {
      {"one more block: nobody", 6, 0},
      {"no more blocks: the last, and not the one before it", 5, 1},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.claim);
    CountingEngine engine({.max_context = 80}, row.num_kv_blocks);
    std::vector<Reader> readers(3);
    const int prompt_tokens[] = {3, 12, 11};
    for (int i = 0; i < 3; ++i) {
      Request request = WithTokens(absl::StrCat(i), prompt_tokens[i], 18, 100 * i);
      request.bypass_prefix_cache = true;
      engine.Submit(std::move(request), readers[i]);
    }
    engine.Steps(14);
    EXPECT_EQ(engine.core.Load().running_requests, 3);
    EXPECT_EQ(engine.core.Load().preemptions, 0);
    engine.Steps(1);
    EXPECT_EQ(engine.core.Load().preemptions, row.preemptions);
    EXPECT_EQ(engine.core.Load().running_requests, 3 - row.preemptions);
    EXPECT_EQ(readers[0].events().size(), 1u + 15);
    EXPECT_EQ(readers[1].events().size(), 1u + 15);
    engine.Steps(100);
    EXPECT_EQ(engine.core.Load().preemptions, row.preemptions);
    for (Reader& reader : readers) EXPECT_EQ(reader.events().size(), 1u + 18 + 1);
    engine.ExpectIdle();
  }
}

TEST(PreemptionTest, APreemptedRequestIsCancelledAndPassesItsDeadlineLikeAnyThatWaits) {
  for (const bool cancel : {true, false}) {
    CountingEngine engine({.max_context = 64}, 4);
    Reader first, second;
    engine.Submit(WithTokens("first", 4, 60), first);
    Request request = WithTokens("second", 4, 60, 100);
    request.deadline = engine.clock.Now() + absl::Seconds(1);
    engine.Submit(std::move(request), second);
    engine.Steps(35);
    ASSERT_EQ(engine.core.Load().waiting_requests, 1);
    EXPECT_EQ(engine.core.Load().waiting_prompt_tokens, 4);
    const size_t num_events = second.events().size();
    if (cancel) {
      EXPECT_TRUE(engine.core.Cancel("second").ok());
    } else {
      engine.clock.Advance(absl::Seconds(1));
    }
    engine.Steps(1);
    ASSERT_EQ(second.events().size(), num_events + 1);
    EXPECT_TRUE(std::holds_alternative<FailedEvent>(second.events().back()));
    EXPECT_EQ(engine.core.Load().waiting_requests, 0);
    engine.Steps(60);
    EXPECT_EQ(first.events().size(), 62u);
    engine.ExpectIdle();
  }
}

TEST(PreemptionTest, IsCounted) {
  CountingEngine engine({.max_context = 64}, 5);
  const metrics::EngineMetrics& metrics = engine.metrics.engine();
  Reader first, second, third;
  engine.Submit(WithTokens("first", 20, 40), first);
  engine.Submit(WithTokens("second", 20, 20, 100), second);
  engine.Steps(200);
  engine.ExpectIdle();
  EXPECT_EQ(metrics.preemptions_total.Value(), 1);
  // However often a prompt is computed, and wherever it comes from, it counts once.
  EXPECT_EQ(metrics.prompt_tokens_total.Value(), 40);
  EXPECT_EQ(metrics.generation_tokens_total.Value(), 60);
  EXPECT_EQ(metrics.prefix_cache_queries_total.Value(), 40);
  EXPECT_EQ(metrics.prefix_cache_hits_total.Value(), 0);
  engine.RunAlone(WithTokens("third", 20, 1, 100), third);
  EXPECT_EQ(metrics.prefix_cache_queries_total.Value(), 60);
  EXPECT_EQ(metrics.prefix_cache_hits_total.Value(), 16);
  EXPECT_EQ(metrics.prompt_tokens_cached_total.Value(), 16);
  EXPECT_EQ(metrics.prompt_tokens_total.Value(), 60);
  EXPECT_EQ(metrics.kv_blocks_used.Value(), 0);
  EXPECT_EQ(metrics.kv_blocks_cached.Value() + metrics.kv_blocks_free.Value(), 5);
}

}  // namespace
}  // namespace sluice::scheduler
