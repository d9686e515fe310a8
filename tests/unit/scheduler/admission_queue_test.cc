#include "scheduler/admission_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/manual_clock.h"
#include "test_engine.h"

namespace sluice::scheduler {
namespace {

using ::testing::ElementsAre;

class AdmissionQueueTest : public ::testing::Test {
 protected:
  absl::StatusCode Submit(absl::string_view id) {
    return queue_.Submit(MakeRequest(id, 1, 1), reader_.stream()).code();
  }
  absl::StatusCode Cancel(absl::string_view id) { return queue_.Cancel(id).code(); }
  // The engine drains, holds `waiting` requests back, runs `running` and ends `ended`.
  EngineLoad Update(int waiting, int running, std::vector<absl::string_view> ended = {}) {
    return queue_.Update({.waiting_requests = waiting, .running_requests = running}, ended);
  }

  testing::ManualClock clock_;
  Reader reader_;
  TestMetrics metrics_;
  AdmissionQueue queue_{
      {.max_waiting_requests = 2, .max_waiting_tokens = 1000}, clock_, metrics_.engine()};
};

TEST_F(AdmissionQueueTest, IsBoundedByThoseThatWaitDrainedOrNot) {
  EXPECT_EQ(Submit("a"), absl::StatusCode::kOk);
  EXPECT_EQ(Submit("b"), absl::StatusCode::kOk);
  EXPECT_EQ(Submit("c"), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(queue_.TakeInbox().arrivals.size(), 2u);
  EXPECT_EQ(Submit("c"), absl::StatusCode::kResourceExhausted);
  Update(/*waiting=*/1, /*running=*/1);
  EXPECT_EQ(Submit("c"), absl::StatusCode::kOk);
  EXPECT_EQ(Submit("d"), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(queue_.Load().waiting_requests, 2);
  EXPECT_EQ(queue_.Load().running_requests, 1);
}

TEST_F(AdmissionQueueTest, AnIdIsInUseUntilItsRequestEnds) {
  EXPECT_EQ(Submit("a"), absl::StatusCode::kOk);
  EXPECT_EQ(Submit("a"), absl::StatusCode::kAlreadyExists);
  queue_.TakeInbox();
  Update(0, 1);
  EXPECT_EQ(Submit("a"), absl::StatusCode::kAlreadyExists);
  Update(0, 0, {"a"});
  EXPECT_EQ(Submit("a"), absl::StatusCode::kOk);
}

TEST_F(AdmissionQueueTest, ARefusedRequestLeavesNoTrace) {
  Submit("a");
  Submit("b");
  Submit("c");
  EXPECT_EQ(Cancel("c"), absl::StatusCode::kNotFound);
  queue_.TakeInbox();
  Update(0, 2);
  EXPECT_EQ(Submit("c"), absl::StatusCode::kOk);
}

TEST_F(AdmissionQueueTest, CancelledTwiceIsInTheInboxOnce) {
  Submit("a");
  Submit("b");
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(Cancel("b"), absl::StatusCode::kOk);
  const Inbox inbox = queue_.TakeInbox();
  ASSERT_EQ(inbox.arrivals.size(), 2u);
  EXPECT_THAT(inbox.cancelled, ElementsAre(Cancellation{inbox.arrivals[1].number, {}}));
  EXPECT_EQ(Cancel("b"), absl::StatusCode::kOk);
  EXPECT_TRUE(queue_.TakeInbox().cancelled.empty());
  EXPECT_EQ(Cancel("unknown"), absl::StatusCode::kNotFound);
}

TEST_F(AdmissionQueueTest, EachChoiceIsCancelledOnce) {
  Request request = MakeRequest("a", 1, 1);
  request.num_choices = 3;
  EXPECT_TRUE(queue_.Submit(std::move(request), reader_.stream()).ok());
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(queue_.Cancel("a", nullptr, 2).ok());
    EXPECT_TRUE(queue_.Cancel("a", nullptr, 0).ok());
  }
  EXPECT_EQ(queue_.Cancel("a", nullptr, 3).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(queue_.Cancel("a", nullptr, -1).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(queue_.Cancel("a").ok());
  EXPECT_TRUE(queue_.Cancel("a", nullptr, 1).ok());  // ends anyway
  EXPECT_THAT(queue_.TakeInbox().cancelled,
              ElementsAre(Cancellation{0, 2}, Cancellation{0, 0}, Cancellation{0, {}}));
}

TEST_F(AdmissionQueueTest, IsBoundedByThePromptTokensThatWait) {
  const auto submit = [this](absl::string_view id, int prompt_tokens) {
    return queue_.Submit(MakeRequest(id, prompt_tokens, 1), reader_.stream()).code();
  };
  EXPECT_EQ(submit("a", 400), absl::StatusCode::kOk);
  EXPECT_EQ(submit("b", 601), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(metrics_.engine().rejections_queue_tokens.Value(), 1);
  EXPECT_EQ(queue_.Load().waiting_prompt_tokens, 400);
  EXPECT_EQ(submit("b", 600), absl::StatusCode::kOk);
  EXPECT_EQ(queue_.Load().waiting_prompt_tokens, 1000);
  queue_.TakeInbox();
  EXPECT_EQ(queue_.Load().waiting_prompt_tokens, 1000);
  queue_.Update({.waiting_requests = 1, .waiting_prompt_tokens = 600, .running_requests = 1}, {});
  EXPECT_EQ(submit("c", 401), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(submit("c", 400), absl::StatusCode::kOk);
  EXPECT_EQ(submit("d", 1), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(metrics_.engine().rejections_queue_full.Value(), 1);
  queue_.TakeInbox();
  Update(0, 3);
  EXPECT_EQ(submit("long", 5000), absl::StatusCode::kOk);  // nobody waits
}

// So many seconds are left until the deadline.
TEST_F(AdmissionQueueTest, RefusesWhoseDeadlineThePromptsBeforeItWillOutlast) {
  const auto submit = [this](absl::string_view id, double seconds, int priority = 0) {
    Request request = MakeRequest(id, 100, 1);
    request.deadline = clock_.Now() + absl::Seconds(seconds);
    request.priority = priority;
    return queue_.Submit(std::move(request), reader_.stream()).code();
  };
  const auto wait = [this] {
    queue_.TakeInbox();
    queue_.Update({.waiting_requests = 1, .waiting_prompt_tokens = 300}, {});
  };
  wait();
  for (int i = 0; i < 7; ++i) queue_.NoteFullStep(100, absl::Seconds(1));
  EXPECT_EQ(submit("too little was measured", 0.1), absl::StatusCode::kOk);
  queue_.NoteFullStep(100, absl::Seconds(1));
  wait();
  EXPECT_EQ(submit("3 s for others, 1 s for itself", 3.9), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(submit("in time", 4.1), absl::StatusCode::kOk);
  wait();
  EXPECT_EQ(submit("passes the others", 1.1, 1), absl::StatusCode::kOk);
  wait();
  EXPECT_EQ(submit("but takes its time", 0.9, 1), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(submit("is past already, as it will hear", -1), absl::StatusCode::kOk);
  wait();
  for (int i = 0; i < 100; ++i) queue_.NoteAdmitted(100, 50);
  EXPECT_EQ(submit("half is cached as a rule", 2.1), absl::StatusCode::kOk);
  wait();
  EXPECT_EQ(submit("but only half", 1.9), absl::StatusCode::kResourceExhausted);
}

TEST_F(AdmissionQueueTest, RefusesWhoseDeadlineThoseThatRunWillOutlast) {
  const auto submit = [this](absl::string_view id, double seconds) {
    Request request = MakeRequest(id, 1, 1);
    request.deadline = clock_.Now() + absl::Seconds(seconds);
    return queue_.Submit(std::move(request), reader_.stream()).code();
  };
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(submit("a", i < 16 ? 0.1 : 1e9), absl::StatusCode::kOk);
    queue_.TakeInbox();
    clock_.Advance(absl::Seconds(2));
    Update(0, 64, {"a"});
  }
  // All 64 places are taken; one becomes free every 2 s.
  EXPECT_EQ(submit("b", 1.9), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(submit("b", 2.1), absl::StatusCode::kOk);
  EXPECT_EQ(submit("c", 3.9), absl::StatusCode::kResourceExhausted);
  queue_.TakeInbox();
  Update(0, 63);
  EXPECT_EQ(submit("c", 0.1), absl::StatusCode::kOk);  // there is a place
}

TEST_F(AdmissionQueueTest, RetryDelayFollowsTheRateAtWhichPromptsAreComputedToo) {
  Submit("a");
  queue_.TakeInbox();
  queue_.Update({.waiting_requests = 2, .waiting_prompt_tokens = 600}, {});
  EXPECT_EQ(queue_.RetryDelay(), absl::Seconds(1));  // a guess
  for (int i = 0; i < 8; ++i) queue_.NoteFullStep(100, absl::Seconds(1));
  EXPECT_EQ(queue_.RetryDelay(), absl::Seconds(3));
}

TEST_F(AdmissionQueueTest, DrainingItRefusesAndLetsTheEngineWork) {
  Submit("a");
  queue_.Drain();
  EXPECT_EQ(Submit("b"), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(queue_.AwaitWork(/*busy=*/false));
  EXPECT_EQ(queue_.TakeInbox().arrivals.size(), 1u);
}

TEST_F(AdmissionQueueTest, ACancellationIsNotForALaterRequestOfTheSameId) {
  Submit("a");
  const Inbox first = queue_.TakeInbox();
  Cancel("a");
  Update(0, 0, {"a"});
  Submit("a");
  const Inbox second = queue_.TakeInbox();
  EXPECT_THAT(second.cancelled, ElementsAre(Cancellation{first.arrivals[0].number, {}}));
  ASSERT_EQ(second.arrivals.size(), 1u);
  EXPECT_NE(second.arrivals[0].number, first.arrivals[0].number);
}

TEST_F(AdmissionQueueTest, GivenAStreamItCancelsThatRequestOnly) {
  Submit("a");
  const TokenStream* first = queue_.TakeInbox().arrivals[0].stream.get();
  const TokenStream other([] {});
  EXPECT_EQ(queue_.Cancel("a", &other).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(queue_.TakeInbox().cancelled.empty());
  EXPECT_TRUE(queue_.Cancel("a", first).ok());
  EXPECT_EQ(queue_.TakeInbox().cancelled.size(), 1u);
}

TEST_F(AdmissionQueueTest, ClosedItRefusesAndSendsTheEngineHome) {
  Submit("a");
  EXPECT_TRUE(queue_.AwaitWork(/*busy=*/false));
  queue_.TakeInbox();
  EXPECT_TRUE(queue_.AwaitWork(/*busy=*/true));
  queue_.Close();
  EXPECT_EQ(Submit("b"), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(queue_.AwaitWork(/*busy=*/true));
  EXPECT_EQ(Cancel("a"), absl::StatusCode::kOk);
}

TEST_F(AdmissionQueueTest, RetryDelayFollowsTheRateAtWhichRequestsEnd) {
  EXPECT_EQ(queue_.RetryDelay(), AdmissionQueue::kMinRetryDelay);
  // Idle time does not count.
  clock_.Advance(absl::Hours(5));
  int next_id = 0;
  const auto fill = [&] {
    while (Submit(std::to_string(next_id)) == absl::StatusCode::kOk) ++next_id;
  };
  // A request starts and ends every `interval`, often enough for the mean to forget its past.
  const auto run = [&](absl::Duration interval) {
    for (int i = 0; i < 100; ++i) {
      fill();
      queue_.TakeInbox();
      const std::string first = std::to_string(next_id - 2);
      clock_.Advance(interval);
      Update(1, 0, {first});
    }
    fill();
  };
  fill();
  EXPECT_EQ(queue_.RetryDelay(), absl::Seconds(1));  // a guess, nothing having been measured
  run(absl::Seconds(3));
  EXPECT_NEAR(absl::ToDoubleSeconds(queue_.RetryDelay()), 3.0, 0.01);
  run(absl::Milliseconds(250));
  EXPECT_NEAR(absl::ToDoubleSeconds(queue_.RetryDelay()), 0.25, 0.01);
  // Nothing has ended for longer than usual.
  clock_.Advance(absl::Seconds(7));
  EXPECT_EQ(queue_.RetryDelay(), absl::Seconds(7));
  clock_.Advance(absl::Seconds(700));
  EXPECT_EQ(queue_.RetryDelay(), AdmissionQueue::kMaxRetryDelay);
  run(absl::Seconds(2));
  // An idle hour between two busy times is no slow request.
  queue_.TakeInbox();
  Update(0, 0, {std::to_string(next_id - 1), std::to_string(next_id - 2)});
  clock_.Advance(absl::Hours(1));
  fill();
  EXPECT_LT(queue_.RetryDelay(), absl::Seconds(2.01));
  run(absl::Milliseconds(1));
  EXPECT_EQ(queue_.RetryDelay(), AdmissionQueue::kMinRetryDelay);
}

TEST(DepartureRateTest, RequestsThatEndTogetherShareTheTime) {
  const absl::Time start = absl::FromUnixSeconds(1000);
  DepartureRate rate;
  rate.NoteBusy(start);
  for (int i = 1; i <= 50; ++i) rate.NoteEnded(4, start + i * absl::Seconds(2));
  EXPECT_NEAR(absl::ToDoubleSeconds(rate.MeanInterval(start + absl::Seconds(100))), 0.5, 1e-3);
}

}  // namespace
}  // namespace sluice::scheduler
