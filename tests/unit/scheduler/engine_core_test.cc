// What a client sees of the engine, step by step, with a clock turned by hand and no threads.
#include "scheduler/engine_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "test_engine.h"

namespace sluice::scheduler {
namespace {

TEST(EngineCoreTest, AnswersWithTheModelsTokens) {
  TestEngine engine;
  Reader reader;
  engine.Submit(MakeRequest("a", 3, 4), reader);
  EXPECT_EQ(reader.words(), "");
  engine.Steps(1);
  EXPECT_EQ(reader.words(), "started 3");
  engine.Steps(1);
  EXPECT_EQ(reader.words(), "started 3 4");
  engine.Steps(10);
  EXPECT_EQ(reader.words(), "started 3 4 5 6 length");
  engine.ExpectIdle();
  EXPECT_EQ(engine.core.Load().steps, 4);
}

TEST(EngineCoreTest, EndsWhereTheRequestSays) {
  struct Row {
    std::string claim;
    int max_tokens;
    std::vector<TokenId> stop_token_ids;
    std::string words;
  };
  const Row table[] = {
      {"max_tokens 1", 1, {}, "started 5 length"},
      {"stop token first", 9, {4, 5}, "started 5 stop_token"},
      {"stop token later", 9, {7}, "started 5 6 7 stop_token"},
      {"stop token at the limit", 3, {7}, "started 5 6 7 stop_token"},
      {"limit before the stop token", 2, {7}, "started 5 6 length"},
      {"a stop token in the prompt does not count", 2, {1}, "started 5 6 length"},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.claim);
    TestEngine engine;
    Reader reader;
    Request request = MakeRequest("a", 5, row.max_tokens);
    request.stop_token_ids = row.stop_token_ids;
    engine.Submit(std::move(request), reader);
    engine.Steps(12);
    EXPECT_EQ(reader.words(), row.words);
    engine.ExpectIdle();
  }
}

TEST(EngineCoreTest, RequestsJoinAndLeaveBetweenSteps) {
  TestEngine engine;
  Reader a, b, c;
  engine.Submit(MakeRequest("a", 2, 3), a);
  engine.Steps(1);
  engine.Submit(MakeRequest("b", 20, 2), b);
  engine.Steps(1);
  engine.Submit(MakeRequest("c", 10, 1), c);
  engine.Steps(1);
  EXPECT_EQ(a.words(), "started 2 3 4 length");
  EXPECT_EQ(b.words(), "started 20 21 length");
  EXPECT_EQ(c.words(), "started 10 length");
  EXPECT_EQ(engine.core.Load().steps, 3);
}

TEST(EngineCoreTest, StreamsKeepTheirPaceWhileALongPromptArrives) {
  constexpr int kPrompt = 32'000;
  TestEngine engine({.limits = {.max_step_tokens = 512, .max_context = 40'000},
                     .runner = {.num_kv_blocks = 2'500, .next_token = CountTokens}});
  std::vector<Reader> streams(8);
  Reader newcomer;
  for (size_t i = 0; i < streams.size(); ++i) {
    engine.Submit(MakeRequest(absl::StrCat("stream", i), 10, 200), streams[i]);
  }
  engine.Steps(1);
  engine.Submit(MakeRequest("newcomer", kPrompt, 2), newcomer);
  int steps = 0;
  while (newcomer.words() != "started 32000") {
    const size_t before = streams[0].events().size();
    engine.Steps(1);
    ++steps;
    for (Reader& stream : streams) {
      ASSERT_EQ(stream.events().size(), before + 1) << "in step " << steps;
    }
    ASSERT_LE(steps, 100);
  }
  // Each step has 504 tokens for the prompt beside those of the streams.
  EXPECT_EQ(steps, (kPrompt + 503) / 504);
}

TEST(EngineCoreTest, ManyStreamsAllKeepTheirPace) {
  // More requests than a step has tokens: the rest waits instead of slowing the streams down.
  TestEngine engine({.limits = {.max_step_tokens = 8, .max_context = 100},
                     .runner = {.num_kv_blocks = 64, .next_token = CountTokens}});
  std::vector<Reader> readers(12);
  for (size_t i = 0; i < readers.size(); ++i) {
    engine.Submit(MakeRequest(absl::StrCat(i), 1, 50), readers[i]);
  }
  engine.Steps(1);
  EXPECT_EQ(engine.core.Load().running_requests, 8);
  for (int step = 1; step < 20; ++step) {
    engine.Steps(1);
    for (int i = 0; i < 8; ++i) ASSERT_EQ(readers[i].events().size(), 2u + step);
  }
}

// At each moment of a request's life: prompt of 20 tokens in chunks of 8, then the answer 20, 21...
struct Moment {
  std::string when;
  int steps;
  std::string words;  // before the failure
};

const Moment kMoments[] = {
    {"before it is drained", 0, ""},
    {"after the first chunk", 1, "started "},
    {"in mid-prefill", 2, "started "},
    {"after the first token", 3, "started 20 "},
    {"while decoding", 5, "started 20 21 22 "},
};

TestSetup SmallSteps() {
  return {.limits = {.max_step_tokens = 8, .max_context = 1000},
          .runner = {.next_token = CountTokens}};
}

TEST(EngineCoreTest, CancelEndsARequestWithinOneStepAtAnyMoment) {
  for (const Moment& moment : kMoments) {
    SCOPED_TRACE(moment.when);
    TestEngine engine(SmallSteps());
    Reader reader;
    engine.Submit(MakeRequest("a", 20, 100), reader);
    engine.Steps(moment.steps);
    EXPECT_TRUE(engine.core.Cancel("a").ok());
    EXPECT_TRUE(engine.core.Cancel("a").ok());
    engine.Steps(1);
    EXPECT_EQ(reader.words(), moment.words + "CANCELLED");
    engine.ExpectIdle();
    EXPECT_EQ(engine.core.Load().steps, moment.steps);
    EXPECT_EQ(engine.core.Cancel("a").code(), absl::StatusCode::kNotFound);
    engine.Steps(3);
    EXPECT_EQ(reader.words(), moment.words + "CANCELLED");
  }
}

TEST(EngineCoreTest, ADeadlineEndsARequestWithinOneStepAtAnyMoment) {
  for (const Moment& moment : kMoments) {
    SCOPED_TRACE(moment.when);
    TestEngine engine(SmallSteps());
    Reader reader;
    Request request = MakeRequest("a", 20, 100);
    request.deadline = engine.clock.Now() + absl::Seconds(10);
    engine.Submit(std::move(request), reader);
    if (moment.steps > 0) engine.Steps(moment.steps - 1);
    engine.clock.Advance(absl::Seconds(10) - absl::Nanoseconds(1));
    if (moment.steps > 0) engine.Steps(1);
    engine.clock.Advance(absl::Nanoseconds(1));
    engine.Steps(1);
    EXPECT_EQ(reader.words(), moment.words + "DEADLINE_EXCEEDED");
    engine.ExpectIdle();
    EXPECT_EQ(engine.core.Load().steps, moment.steps);
  }
}

TEST(EngineCoreTest, WaitingRequestsAreCancelledAndPassTheirDeadlinesToo) {
  TestEngine engine({.limits = {.max_running_requests = 1, .max_context = 1000},
                     .runner = {.next_token = CountTokens}});
  Reader running, cancelled, late, patient;
  engine.Submit(MakeRequest("running", 5, 6), running);
  engine.Submit(MakeRequest("cancelled", 5, 5), cancelled);
  Request request = MakeRequest("late", 5, 5);
  request.deadline = engine.clock.Now() + absl::Seconds(1);
  engine.Submit(std::move(request), late);
  engine.Submit(MakeRequest("patient", 5, 1), patient);
  engine.Steps(2);
  EXPECT_EQ(engine.core.Load().waiting_requests, 3);
  EXPECT_TRUE(engine.core.Cancel("cancelled").ok());
  engine.Steps(1);
  EXPECT_EQ(cancelled.words(), "CANCELLED");
  engine.clock.Advance(absl::Seconds(1));
  engine.Steps(1);
  EXPECT_EQ(late.words(), "DEADLINE_EXCEEDED");
  EXPECT_EQ(running.words(), "started 5 6 7 8");
  engine.Steps(3);
  EXPECT_EQ(running.words(), "started 5 6 7 8 9 10 length");
  EXPECT_EQ(patient.words(), "started 5 length");
  engine.ExpectIdle();
}

TEST(EngineCoreTest, ACancelledRequestMakesRoomInTheSameStep) {
  TestEngine engine({.limits = {.max_context = 64}, .runner = {.num_kv_blocks = 4}});
  Reader first, second;
  engine.Submit(MakeRequest("first", 56, 8), first);
  engine.Steps(1);
  engine.Submit(MakeRequest("second", 8, 56), second);
  engine.Steps(1);
  EXPECT_EQ(second.words(), "");
  EXPECT_TRUE(engine.core.Cancel("first").ok());
  engine.Steps(1);
  EXPECT_TRUE(absl::StartsWith(second.words(), "started ")) << second.words();
}

TEST(EngineCoreTest, ACancellationOfARequestThatFinishesMeanwhileIsNotForItsSuccessor) {
  EngineCore* core = nullptr;
  TestEngine engine({.limits = {.max_context = 100},
                     .runner = {.next_token = CountTokens,
                                .on_run = [&core](absl::Span<const model::SequenceStep>) {
                                  if (core->Load().steps == 1) {
                                    EXPECT_TRUE(core->Cancel("a").ok());
                                  }
                                }}});
  core = &engine.core;
  Reader first, second;
  engine.Submit(MakeRequest("a", 3, 2), first);
  engine.Steps(2);
  EXPECT_EQ(first.words(), "started 3 4 length");
  engine.Submit(MakeRequest("a", 3, 2), second);
  engine.Steps(2);
  EXPECT_EQ(second.words(), "started 3 4 length");
}

TEST(EngineCoreTest, RefusesAtOnceWhatCannotRun) {
  struct Row {
    std::string claim;
    int prompt_tokens;
    int max_tokens;
    absl::StatusCode code;
    std::string message_begins;
    int num_choices = 1;
    int min_tokens = 0;
  };
  const Row table[] = {
      {"no prompt", 0, 1, absl::StatusCode::kInvalidArgument, "prompt:"},
      {"no answer", 1, 0, absl::StatusCode::kInvalidArgument, "max_tokens:"},
      {"negative answer", 1, -5, absl::StatusCode::kInvalidArgument, "max_tokens:"},
      {"prompt beyond the context", 101, 1, absl::StatusCode::kInvalidArgument, "prompt:"},
      {"prompt fills the context", 100, 1, absl::StatusCode::kInvalidArgument, "prompt:"},
      {"answer beyond the context", 50, 51, absl::StatusCode::kInvalidArgument, "max_tokens:"},
      {"largest answer", 1, 2'147'483'647, absl::StatusCode::kInvalidArgument, "max_tokens:"},
      {"exactly the context", 50, 50, absl::StatusCode::kOk, ""},
      {"no choice", 1, 1, absl::StatusCode::kInvalidArgument, "num_choices:", 0},
      {"more choices than run at once", 1, 1, absl::StatusCode::kInvalidArgument,
       "num_choices:", 65},
      {"as many choices as run at once", 1, 1, absl::StatusCode::kOk, "", 64},
      {"fewer tokens than none", 1, 1, absl::StatusCode::kInvalidArgument, "min_tokens:", 1, -1},
      {"min_tokens above max_tokens", 1, 4, absl::StatusCode::kInvalidArgument, "min_tokens:", 1,
       5},
      {"min_tokens as max_tokens", 1, 4, absl::StatusCode::kOk, "", 1, 4},
  };
  for (const int num_kv_blocks : {100, 7}) {  // 7 blocks hold 112 positions
    TestEngine engine({.limits = {.max_context = 100}, .runner = {.num_kv_blocks = num_kv_blocks}});
    for (const Row& row : table) {
      SCOPED_TRACE(row.claim);
      Reader reader;
      Request request = MakeRequest(row.claim, row.prompt_tokens, row.max_tokens);
      request.num_choices = row.num_choices;
      request.min_tokens = row.min_tokens;
      const absl::Status status = engine.core.Submit(std::move(request), reader.stream());
      EXPECT_EQ(status.code(), row.code) << status;
      EXPECT_TRUE(absl::StartsWith(status.message(), row.message_begins)) << status;
      engine.Steps(1);
      engine.core.Cancel(row.claim).IgnoreError();
      EXPECT_EQ(reader.num_wakes(), row.code == absl::StatusCode::kOk ? 1 : 0);
    }
  }
}

TEST(EngineCoreTest, RefusesWhatTheKvCacheCannotHold) {
  TestEngine engine(
      {.limits = {.max_context = 1000}, .runner = {.num_kv_blocks = 2, .next_token = CountTokens}});
  Reader refused, reader;
  const absl::Status status = engine.core.Submit(MakeRequest("a", 30, 3), refused.stream());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "KV cache")) << status;
  engine.Submit(MakeRequest("a", 30, 2), reader);
  engine.Steps(2);
  EXPECT_EQ(reader.words(), "started 30 31 length");
}

TEST(EngineCoreTest, AFullQueueRefusesAndServesWhatItTook) {
  TestEngine engine(
      {.limits = {.max_waiting_requests = 2, .max_running_requests = 1, .max_context = 1000},
       .runner = {.next_token = CountTokens}});
  Reader a, b, c, refused;
  engine.Submit(MakeRequest("a", 1, 2), a);
  engine.Steps(1);
  engine.Submit(MakeRequest("b", 1, 1), b);
  engine.Submit(MakeRequest("c", 1, 1), c);
  EXPECT_EQ(engine.core.Submit(MakeRequest("d", 1, 1), refused.stream()).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(engine.core.Submit(MakeRequest("a", 1, 1), refused.stream()).code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_GT(engine.core.RetryDelay(), AdmissionQueue::kMinRetryDelay);
  engine.Steps(4);
  EXPECT_EQ(a.words(), "started 1 2 length");
  EXPECT_EQ(b.words(), "started 1 length");
  EXPECT_EQ(c.words(), "started 1 length");
  EXPECT_EQ(refused.num_wakes(), 0);
  EXPECT_EQ(engine.core.RetryDelay(), AdmissionQueue::kMinRetryDelay);
}

TEST(EngineCoreTest, ALargeRequestIsNotStarvedBySmallerOnes) {
  TestEngine engine(
      {.limits = {.max_context = 128}, .runner = {.num_kv_blocks = 8, .next_token = CountTokens}});
  Reader running, large, small;
  engine.Submit(MakeRequest("running", 4, 12), running);  // one block, so 7 are left
  engine.Steps(1);
  engine.Submit(MakeRequest("large", 120, 8), large);  // needs 8
  engine.Submit(MakeRequest("small", 4, 4), small);
  engine.Steps(10);
  EXPECT_EQ(running.events().size(), 12u);
  EXPECT_EQ(large.words(), "");
  EXPECT_EQ(small.words(), "");
  engine.Steps(2);
  EXPECT_EQ(large.words(), "started 120");
  EXPECT_EQ(small.words(), "");
  engine.Steps(20);
  EXPECT_EQ(small.words(), "started 4 5 6 7 length");
}

TEST(EngineCoreTest, AReaderWhoNeverReadsDelaysNobodyAndHoldsABoundedNumberOfEvents) {
  TestEngine engine;
  Reader slow, quick;
  Request request = MakeRequest("slow", 3, 40);
  request.prompt_logprobs = 0;
  engine.Submit(std::move(request), slow);
  engine.Submit(MakeRequest("quick", 3, 40), quick);
  for (int step = 1; step <= 39; ++step) {
    engine.Steps(1);
    ASSERT_EQ(quick.events().size(), 1u + step);
  }
  engine.Steps(1);
  engine.ExpectIdle();
  EXPECT_EQ(slow.num_wakes(), 1);
  EXPECT_EQ(slow.events().size(), 40u + 3);
}

TEST(EngineCoreTest, AnEndedRequestsIdCanBeUsedAtOnce) {
  TestEngine engine;
  int runs = 0;
  std::shared_ptr<TokenStream> stream;
  const auto on_readable = [&] {
    for (const StreamEvent& event : stream->Take()) {
      if (!std::holds_alternative<FinishedEvent>(event)) continue;
      EXPECT_EQ(engine.core.Load().running_requests, 0);
      EXPECT_EQ(engine.core.Load().used_kv_blocks(), 0);
      if (++runs < 3) {
        EXPECT_TRUE(engine.core.Submit(MakeRequest("a", 2, 2), stream).ok());
      }
    }
  };
  stream = std::make_shared<TokenStream>(on_readable);
  EXPECT_TRUE(engine.core.Submit(MakeRequest("a", 2, 2), stream).ok());
  engine.Steps(6);
  EXPECT_EQ(runs, 3);
}

TEST(EngineCoreTest, EndAllEndsWhatIsInTheInboxWaitsAndRuns) {
  TestEngine engine({.limits = {.max_running_requests = 1, .max_context = 1000},
                     .runner = {.next_token = CountTokens}});
  Reader running, waiting, inbox, cancelled, refused;
  engine.Submit(MakeRequest("running", 3, 9), running);
  engine.Submit(MakeRequest("waiting", 3, 9), waiting);
  engine.Steps(2);
  engine.Submit(MakeRequest("inbox", 3, 9), inbox);
  engine.Submit(MakeRequest("cancelled", 3, 9), cancelled);
  EXPECT_TRUE(engine.core.Cancel("cancelled").ok());
  engine.core.Close();
  EXPECT_EQ(engine.core.Submit(MakeRequest("refused", 3, 9), refused.stream()).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_FALSE(engine.core.AwaitWork());
  engine.core.EndAll("stopping");
  EXPECT_EQ(running.words(), "started 3 4 UNAVAILABLE");
  EXPECT_EQ(waiting.words(), "UNAVAILABLE");
  EXPECT_EQ(inbox.words(), "UNAVAILABLE");
  EXPECT_EQ(cancelled.words(), "CANCELLED");
  EXPECT_EQ(refused.num_wakes(), 0);
  engine.ExpectIdle();
}

}  // namespace
}  // namespace sluice::scheduler
