// Who is admitted when: priorities and their ageing, drain, and deadlines that cannot be met.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/engine_core.h"
#include "scheduler/rank.h"
#include "test_engine.h"

namespace sluice::scheduler {
namespace {

TEST(RankTest, OrdersAsTheTableSays) {
  constexpr absl::Duration kAgeing = absl::Seconds(10);
  const absl::Time start = absl::FromUnixSeconds(1000);
  struct Row {
    std::string claim;
    double first_at;
    int first_priority;
    double second_at;
    int second_priority;
  };
  // The first is served first.
  const Row table[] = {
      {"of one priority, who came first", 0, 0, 1, 0},
      {"who came first, though in the same moment", 0, 0, 0, 0},
      {"the higher priority", 5, 1, 0, 0},
      {"the higher priority, just", 9.9, 1, 0, 0},
      {"who has waited longer than the priority is worth", 0, 0, 10.1, 1},
      {"who has waited for as long as that came first", 0, 0, 10, 1},
      {"a priority below 0 waits", 10, 0, 0.1, -1},
      {"but not for ever", 0, -1, 10.1, 0},
      {"two priorities are worth two times", 19.9, 2, 0, 0},
      {"the highest there is", 1e9, 2147483647, 0, 2147483646 - 100'000'000},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.claim);
    const bool came_first = row.first_at <= row.second_at;
    const Rank first = Rank::Of(start + absl::Seconds(row.first_at), came_first ? 1 : 2,
                                row.first_priority, kAgeing);
    const Rank second = Rank::Of(start + absl::Seconds(row.second_at), came_first ? 2 : 1,
                                 row.second_priority, kAgeing);
    EXPECT_TRUE(first < second);
    EXPECT_FALSE(second < first);
  }
}

// One request runs at a time.
TestSetup OneAtATime(absl::Duration priority_ageing) {
  return {.limits = {.max_running_requests = 1,
                     .max_context = 1000,
                     .priority_ageing = priority_ageing},
          .runner = {.next_token = CountTokens},
          .step_time = absl::Seconds(1)};
}

Request WithPriority(absl::string_view id, int priority) {
  Request request = MakeRequest(id, 3, 1);
  request.priority = priority;
  return request;
}

TEST(PriorityTest, HigherOnesAreAdmittedFirst) {
  TestEngine engine(OneAtATime(absl::Seconds(10)));
  Reader low, normal, high, later;
  engine.Submit(WithPriority("low", -3), low);
  engine.Submit(WithPriority("normal", 0), normal);
  engine.Submit(WithPriority("high", 5), high);
  engine.Submit(WithPriority("later", 0), later);
  for (Reader* reader : {&high, &normal, &later, &low}) {
    EXPECT_EQ(reader->words(), "");
    engine.Steps(1);
    EXPECT_EQ(reader->words(), "started 3 length");
  }
}

TEST(PriorityTest, NobodyWaitsForLongerThanTheBound) {
  // A request of priority 3 arrives in each step and takes it; one of priority 0 waits beside them.
  TestEngine engine(OneAtATime(absl::Seconds(10)));
  Reader patient;
  engine.Submit(WithPriority("patient", 0), patient);
  std::vector<Reader> others(60);
  int step = 0;
  while (patient.words().empty() && step < 60) {
    engine.Submit(WithPriority(absl::StrCat(step), 3), others[step]);
    engine.Steps(1);
    ++step;
  }
  // Those that arrive within 3 * 10 s after it pass it, each taking 1 s: those of seconds 0 to 29.
  EXPECT_EQ(step, 31);
}

TEST(PriorityTest, WithoutAgeingTimeTheyCountForNothing) {
  TestEngine engine(OneAtATime(absl::ZeroDuration()));
  Reader first, second;
  engine.Submit(WithPriority("first", 0), first);
  engine.Submit(WithPriority("second", 100), second);
  engine.Steps(1);
  EXPECT_EQ(first.words(), "started 3 length");
  EXPECT_EQ(second.words(), "");
}

TEST(PriorityTest, AClockThatIsSetBackLetsNobodyPass) {
  TestEngine engine(OneAtATime(absl::Seconds(10)));
  Reader first, second;
  engine.Submit(WithPriority("first", 0), first);
  engine.clock.Advance(-absl::Hours(1));
  engine.Submit(WithPriority("second", 0), second);
  engine.Steps(1);
  EXPECT_EQ(first.words(), "started 3 length");
  EXPECT_EQ(second.words(), "");
}

TEST(DrainTest, WhatWaitsAndRunsGoesOnAndNothingIsAdded) {
  TestEngine engine(OneAtATime(absl::Seconds(10)));
  Reader running, waiting, inbox, refused;
  engine.Submit(MakeRequest("running", 3, 5), running);
  engine.Submit(MakeRequest("waiting", 3, 2), waiting);
  engine.Steps(2);
  engine.Submit(MakeRequest("inbox", 3, 2), inbox);
  engine.core.Drain();
  EXPECT_EQ(engine.core.Submit(MakeRequest("refused", 3, 2), refused.stream()).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_TRUE(engine.core.AwaitWork());
  EXPECT_EQ(engine.core.Load().waiting_requests, 2);
  engine.Steps(10);
  EXPECT_EQ(running.words(), "started 3 4 5 6 7 length");
  EXPECT_EQ(waiting.words(), "started 3 4 length");
  EXPECT_EQ(inbox.words(), "started 3 4 length");
  EXPECT_EQ(refused.num_wakes(), 0);
  engine.ExpectIdle();
}

TEST(DrainTest, WhatDoesNotFinishInTimeIsEndedByStop) {
  TestEngine engine(OneAtATime(absl::Seconds(10)));
  Reader running, cancelled;
  engine.Submit(MakeRequest("running", 3, 50), running);
  engine.Submit(MakeRequest("cancelled", 3, 50), cancelled);
  engine.core.Drain();
  engine.Steps(2);
  EXPECT_TRUE(engine.core.Cancel("cancelled").ok());
  engine.Steps(1);
  engine.core.Close();
  EXPECT_FALSE(engine.core.AwaitWork());
  engine.core.EndAll("stopping");
  EXPECT_EQ(running.words(), "started 3 4 5 UNAVAILABLE");
  EXPECT_EQ(cancelled.words(), "CANCELLED");
  engine.ExpectIdle();
}

TEST(DeadlineTest, WhatCannotBeMetIsRefusedAtOnce) {
  // A prompt runs at 8 tokens a second.
  TestEngine engine({.limits = {.max_step_tokens = 8, .max_context = 1000},
                     .runner = {.next_token = CountTokens},
                     .step_time = absl::Seconds(1)});
  const auto submit = [&](absl::string_view id, int prompt_tokens, absl::Duration deadline) {
    Request request = MakeRequest(id, prompt_tokens, 1);
    request.prompt[0] = static_cast<TokenId>(100 + id[0]);  // nothing is found in the cache
    request.deadline = engine.clock.Now() + deadline;
    Reader reader;
    return engine.core.Submit(std::move(request), reader.stream());
  };
  // Nothing has been measured: whatever it is, it is taken.
  EXPECT_TRUE(submit("a", 80, absl::Seconds(100)).ok());
  EXPECT_TRUE(submit("b", 80, absl::Seconds(1)).ok());
  engine.Steps(12);
  engine.ExpectIdle();

  EXPECT_TRUE(submit("c", 80, absl::Seconds(10.5)).ok());
  // 80 tokens wait before it.
  const absl::Status refused = submit("d", 8, absl::Seconds(10.5));
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(refused.message(), "deadline")) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "10.5s")) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "11s")) << refused;
  EXPECT_EQ(engine.metrics.engine().rejections_deadline.Value(), 1);
  EXPECT_TRUE(submit("e", 8, absl::Seconds(11.5)).ok());
  engine.Steps(12);
  engine.ExpectIdle();
  // Its own prompt takes too long.
  EXPECT_EQ(submit("f", 80, absl::Seconds(9)).code(), absl::StatusCode::kResourceExhausted);
}

TEST(MinTokensTest, StopTokensAreSuppressedBefore) {
  std::vector<size_t> num_suppressed;
  TestEngine engine({.limits = {.max_context = 100},
                     .runner = {.next_token = CountTokens,
                                .on_run = [&](absl::Span<const model::SequenceStep> batch) {
                                  num_suppressed.push_back(batch[0].suppressed.size());
                                }}});
  Reader reader;
  Request request = MakeRequest("a", 5, 9);
  request.stop_token_ids = {6, 8};
  request.min_tokens = 3;
  engine.Submit(std::move(request), reader);
  engine.Steps(9);
  // 6 gives way to 7; 8 is the fourth.
  EXPECT_EQ(reader.words(), "started 5 7 7 8 stop_token");
  EXPECT_THAT(num_suppressed, ::testing::ElementsAre(2, 2, 2, 0));
}

}  // namespace
}  // namespace sluice::scheduler
