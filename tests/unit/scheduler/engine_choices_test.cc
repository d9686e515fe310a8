// Requests for several answers.
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

using ::testing::Each;

Request ForChoices(int num_choices, int prompt_tokens, int max_tokens) {
  Request request = MakeRequest("a", prompt_tokens, max_tokens);
  for (int i = 0; i < prompt_tokens; ++i) request.prompt[i] = 10 + i;
  request.num_choices = num_choices;
  request.sampling = {.temperature = 1, .seed = 99};
  return request;
}

template <typename Event>
int Count(const std::vector<StreamEvent>& events) {
  return static_cast<int>(std::count_if(events.begin(), events.end(), [](const StreamEvent& event) {
    return std::holds_alternative<Event>(event);
  }));
}

// What a request of one choice with the seed of `choice` is answered.
std::vector<TokenId> AnswerAlone(Request request, int choice) {
  CountingEngine engine;
  Reader reader;
  request.num_choices = 1;
  request.sampling.seed = ChoiceSeed(request.sampling.seed, choice);
  engine.Submit(std::move(request), reader);
  engine.Steps(100);
  return TokensOf(reader.events());
}

TEST(ChoicesTest, AreEqualToSeparateRequestsAndShareOnePrompt) {
  struct Row {
    std::string claim;
    int prompt_tokens;
    int max_tokens = 20;
    bool bypass = false;
    int max_step_tokens = 512;
    int num_kv_blocks = 64;
  };
  const Row table[] = {
      {"one token", 1},
      {"the last token alone in its block", 17},
      {"a partial block is copied", 24},
      {"the last token fills its block", 32},
      {"in chunks", 60, 20, false, 8},
      {"without the prefix cache", 40, 20, true},
      {"each ends with its first token", 40, 1, true},
      {"with blocks so short that choices are preempted", 40, 20, false, 512, 7},
      {"and computed anew in full", 40, 20, true, 512, 7},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.claim);
    constexpr int kChoices = 4;
    CountingEngine engine({.max_step_tokens = row.max_step_tokens, .max_context = 100},
                          row.num_kv_blocks);
    Request request = ForChoices(kChoices, row.prompt_tokens, row.max_tokens);
    request.bypass_prefix_cache = row.bypass;
    Reader reader;
    engine.Submit(request, reader);
    engine.Steps(300);
    engine.ExpectIdle();
    const std::vector<StreamEvent>& events = reader.events();
    EXPECT_EQ(Count<StartedEvent>(events), 1);
    EXPECT_EQ(Count<FinishedEvent>(events), kChoices);
    EXPECT_TRUE(std::holds_alternative<FinishedEvent>(events.back()));
    std::vector<std::vector<TokenId>> answers;
    for (int choice = 0; choice < kChoices; ++choice) {
      answers.push_back(TokensOf(events, choice));
      EXPECT_EQ(answers.back(), AnswerAlone(request, choice)) << "choice " << choice;
      EXPECT_EQ(std::count(answers.begin(), answers.end(), answers.back()), 1) << "seeds differ";
    }
    const EngineLoad load = engine.core.Load();
    EXPECT_EQ(load.prompt_tokens, row.prompt_tokens);
    EXPECT_EQ(load.generated_tokens, kChoices * row.max_tokens);
    if (load.preemptions == 0) {
      // The prompt once; each further choice its last token; each answer but for its last token.
      EXPECT_EQ(engine.computed, static_cast<size_t>(row.prompt_tokens + kChoices - 1 +
                                                     kChoices * (row.max_tokens - 1)));
    }
    EXPECT_EQ(load.preemptions > 0, row.num_kv_blocks == 7);
  }
}

TEST(ChoicesTest, AllKeepTheirPaceAndShareTheirBlocks) {
  CountingEngine engine;
  Reader reader;
  engine.Submit(ForChoices(8, 40, 30), reader);
  engine.Steps(1);
  EXPECT_EQ(engine.core.Load().running_requests, 1);
  // Two full blocks are shared, the third is each one's own.
  EXPECT_EQ(engine.core.Load().used_kv_blocks(), 2 + 8);
  for (int step = 1; step < 10; ++step) {
    engine.Steps(1);
    for (int choice = 1; choice < 8; ++choice) {
      ASSERT_EQ(TokensOf(reader.events(), choice).size(), static_cast<size_t>(step));
    }
  }
}

TEST(ChoicesTest, PromptLogprobsComeOnce) {
  CountingEngine engine;
  Reader reader;
  Request request = ForChoices(3, 40, 5);
  request.prompt_logprobs = 1;
  request.logprobs = 0;
  engine.Submit(std::move(request), reader);
  engine.Steps(10);
  EXPECT_EQ(Count<PromptLogprobsEvent>(reader.events()), 1);
  EXPECT_EQ(std::get<PromptLogprobsEvent>(reader.events()[1]).logprobs.size(), 39u);
  for (const StreamEvent& event : reader.events()) {
    if (const auto* token = std::get_if<TokenEvent>(&event)) {
      EXPECT_TRUE(token->logprob.has_value());
    }
  }
}

TEST(ChoicesTest, PlacesAreKeptForThem) {
  CountingEngine engine({.max_running_requests = 4, .max_step_tokens = 8, .max_context = 100});
  Reader choices, fits, waits;
  engine.Submit(ForChoices(3, 30, 20), choices);
  engine.Steps(1);
  engine.Submit(MakeRequest("fits", 3, 9), fits);
  engine.Submit(MakeRequest("waits", 3, 9), waits);
  engine.Steps(9);
  EXPECT_GT(fits.events().size(), 1u);
  EXPECT_EQ(waits.words(), "");
  EXPECT_THAT((std::vector<size_t>{TokensOf(choices.events(), 1).size(),
                                   TokensOf(choices.events(), 2).size()}),
              Each(TokensOf(choices.events(), 0).size() - 1));
  engine.Steps(60);
  EXPECT_EQ(Count<FinishedEvent>(waits.events()), 1);
  engine.ExpectIdle();
}

TEST(ChoicesTest, OneIsCancelledAtAnyMomentAndTheOthersGoOn) {
  for (const int cancelled : {0, 1, 2}) {
    // Before it is drained; in mid-prefill; after the first token; while all generate.
    for (const int steps : {0, 2, 5, 6, 9}) {
      SCOPED_TRACE(absl::StrCat("choice ", cancelled, " after ", steps, " steps"));
      CountingEngine engine({.max_step_tokens = 8, .max_context = 100});
      const Request request = ForChoices(3, 40, 12);
      Reader reader;
      engine.Submit(request, reader);
      engine.Steps(steps);
      const size_t num_tokens = TokensOf(reader.events(), cancelled).size();
      EXPECT_TRUE(engine.core.Cancel("a", reader.stream().get(), cancelled).ok());
      EXPECT_TRUE(engine.core.Cancel("a", reader.stream().get(), cancelled).ok());
      engine.Steps(60);
      engine.ExpectIdle();
      EXPECT_EQ(TokensOf(reader.events(), cancelled).size(), num_tokens);
      EXPECT_EQ(Count<FinishedEvent>(reader.events()), 2);
      EXPECT_EQ(Count<FailedEvent>(reader.events()), 0);
      for (int choice = 0; choice < 3; ++choice) {
        if (choice == cancelled) continue;
        EXPECT_EQ(TokensOf(reader.events(), choice), AnswerAlone(request, choice)) << choice;
      }
    }
  }
}

TEST(ChoicesTest, TheRequestEndsWithItsLastChoice) {
  CountingEngine engine;
  Reader reader;
  engine.Submit(ForChoices(2, 10, 50), reader);
  engine.Steps(3);
  EXPECT_TRUE(engine.core.Cancel("a", nullptr, 1).ok());
  engine.Steps(1);
  EXPECT_EQ(engine.core.Load().running_requests, 1);
  EXPECT_TRUE(engine.core.Cancel("a", nullptr, 0).ok());
  engine.Steps(1);
  engine.ExpectIdle();
  const size_t num_events = reader.events().size();
  engine.Steps(3);
  EXPECT_EQ(reader.events().size(), num_events);
  EXPECT_EQ(Count<FinishedEvent>(reader.events()) + Count<FailedEvent>(reader.events()), 0);
  EXPECT_EQ(engine.core.Cancel("a").code(), absl::StatusCode::kNotFound);
}

TEST(ChoicesTest, AFailureEndsAllAtOnceWithOneEvent) {
  for (const int steps : {0, 2, 7}) {
    CountingEngine engine({.max_step_tokens = 8, .max_context = 100});
    Reader reader;
    engine.Submit(ForChoices(3, 40, 30), reader);
    engine.Steps(steps);
    EXPECT_TRUE(engine.core.Cancel("a", nullptr, 1).ok());
    EXPECT_TRUE(engine.core.Cancel("a").ok());
    engine.Steps(1);
    engine.ExpectIdle();
    EXPECT_EQ(Count<FailedEvent>(reader.events()), 1);
    EXPECT_TRUE(std::holds_alternative<FailedEvent>(reader.events().back()));
  }
}

TEST(ChoicesTest, StopTokensEndEachByItself) {
  CountingEngine engine;
  Request request = ForChoices(4, 10, 30);
  const std::vector<TokenId> answer = AnswerAlone(request, 2);
  request.stop_token_ids = {answer[5]};
  Reader reader;
  engine.Submit(request, reader);
  engine.Steps(60);
  engine.ExpectIdle();
  for (int choice = 0; choice < 4; ++choice) {
    EXPECT_EQ(TokensOf(reader.events(), choice), AnswerAlone(request, choice));
  }
  EXPECT_EQ(TokensOf(reader.events(), 2).size(), 6u);
}

}  // namespace
}  // namespace sluice::scheduler
